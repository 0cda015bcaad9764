"""Recordings as fixtures, and fixtures as recordings."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oda_proxy import fixture, screening
from oda_proxy.commands import told
from oda_proxy.commands.products import wired
from oda_proxy.commands.said import say, say_json, warn
from oda_proxy.commands.store import find, opened, reading
from oda_proxy.errors import CodecError, OdaProxyError
from oda_proxy.fixture import Fixture, FixtureAnswer, FixtureQuery
from oda_proxy.key import key_of
from oda_proxy.query import Envelope, split
from oda_proxy.recording import redact
from oda_proxy.redaction import NotKeptError
from oda_proxy.repairs import repaired

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.query import Query
    from oda_proxy.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.disk import DiskStore

_NOBODY = Envelope(query_status="new")
_ECHOED: dict[str, Any] = {"session_id": "", "query_status": "new", "oda_api_version": "", "off_line": "False"}
"""What a dispatcher says of the asker in its echo: whoever asks later stands there."""

_OWN_FIELDS = frozenset({"dry_run"})
"""Parameters that have a field of their own in a fixture."""


class _NoFixtureError(OdaProxyError):
    """A recording cannot be a fixture, or a fixture a recording."""


def export(folder: Path, keys: Sequence[str], *, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Write recordings into a folder of fixtures; end with 1 where one cannot be.

    Where none is named, all that were asked for without a token: a private one is published only by name.
    """
    origins = _origins(folder)
    written, failed = {}, {}
    with opened(upstream, cache_dir) as store:
        public = (entry for entry in store.entries() if not entry.private)
        entries = find(store, keys) if keys else sorted(public, key=lambda entry: entry.stored_at)
        for entry in entries:
            try:
                path = _export(store, entry, folder)
            except OdaProxyError as error:
                failed[entry.key] = str(error)
                warn(f"{entry.key[: told.SHORT]} is left out: {error}")
            else:
                written[entry.key] = path
                origins[path] = {"kind": "recorded", "source": upstream, "modelled": []}
    if origins:
        fixture.write_manifest(folder, origins)
    if as_json:
        say_json({"written": written, "failed": failed})
    else:
        say(f"{key[: told.SHORT]}  {path}" for key, path in written.items())
    return 1 if failed else 0


def import_(folder: Path, *, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Keep the fixtures of a folder as recordings; end with 1 where one cannot be."""
    fixtures = fixture.open_folder(folder).fixtures
    kept, failed = {}, {}
    with opened(upstream, cache_dir, make=True) as store:
        for one in fixtures:
            try:
                recording = _recording(one)
                store.put(recording)
            except OdaProxyError as error:
                failed[one.path] = str(error)
                warn(f"{one.path} is left out: {error}")
            else:
                kept[one.path] = recording.key
    if as_json:
        say_json({"kept": kept, "failed": failed})
    else:
        say(f"{key[: told.SHORT]}  {path}" for path, key in kept.items())
    return 1 if failed else 0


def _origins(folder: Path) -> dict[str, Any]:
    """Give the origins of the fixtures that a folder holds already."""
    if not (folder / fixture.MANIFEST).exists():
        return {}
    return {path: dict(origin) for path, origin in fixture.open_folder(folder).origins.items()}


def _export(store: DiskStore, entry: Entry, folder: Path) -> str:
    """Write one recording, and give the path of its fixture."""
    with reading(store, entry.key) as recording:
        if recording.query is None:
            raise _NoFixtureError("what was asked is not known")
        products = wired(recording)
        query = _fixture_query(recording.query)
        path = "/".join((_name(query.instrument), _name(query.product_type), _slug(entry, query)))
        fixture.write_fixture(folder, path, query, _fixture_answer(recording, products))
    return path


def _fixture_query(query: Query) -> FixtureQuery:
    given = {name: values for name, values in query.parameters if name not in _OWN_FIELDS}
    return FixtureQuery(
        instrument=query.instrument,
        product_type=query.product_type,
        query_type=query.query_type,
        parameters={
            name: _number_or_text(values[0]) if len(values) == 1 else list(values) for name, values in given.items()
        },
        api=query.api,
        dry_run=dict(query.parameters).get("dry_run", ("False",)) != ("False",),
        files=dict(query.files),
    )


def _fixture_answer(recording: Recording, products: dict[str, Any]) -> FixtureAnswer:
    status = {
        name: value if name == "status" else str(value)
        for name, value in recording.exit_status.items()
        if value is not None
    }
    timeline = (("submitted", 0.0), ("ready", recording.cost)) if recording.cost else ()
    return FixtureAnswer("done", status, timeline, products)


def _recording(one: Fixture) -> Recording:
    """Make a recording of a fixture, as of an answer that came from a dispatcher: repaired, screened, redacted."""
    asked, answer = one.query(), one.answer()
    query, _ = split(_words(asked), asked.files.items())
    if answer.query_status != "done":
        raise _NoFixtureError(f"its answer is {answer.query_status!r}, and failures are not kept")
    echo = {"instrument": asked.instrument, "product_type": asked.product_type, "query_type": asked.query_type}
    products = one.wire_products()
    if names := screening.refused(products):
        raise _NoFixtureError(f"a client that reads it would load {', '.join(names)}")
    body = {
        "query_status": "done",
        "exit_status": dict(answer.exit_status),
        "products": {**products, "analysis_parameters": {**_ECHOED, **echo, **asked.parameters}},
    }
    try:
        text = repaired(json.dumps(body).encode("ascii"), 200, _NOBODY)
        recording = redact(text, _NOBODY, key=key_of(query), stored_at=time.time())
    except NotKeptError as error:
        raise _NoFixtureError(f"it is not kept: {error}") from None
    except ValueError as error:
        raise CodecError(f"it has no form on the wire: {error}") from None
    cost = answer.timeline[-1][1] if answer.timeline else 0.0
    return replace(recording, query=query, cost=cost)


def _words(asked: FixtureQuery) -> list[tuple[str, str]]:
    """Give the names and words that a client sends for a query."""
    pairs = [("instrument", asked.instrument), ("product_type", asked.product_type), ("query_type", asked.query_type)]
    pairs += [("api", "True")] if asked.api else []
    pairs += [("dry_run", "True")] if asked.dry_run else []
    for name, value in asked.parameters.items():
        pairs += [(name, str(word)) for word in (value if isinstance(value, list) else [value])]
    return pairs


def _number_or_text(word: str) -> str | int | float:
    """Read a word as the number that is written in just this way, if there is one."""
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if repr(number) == word and number - number == 0:  # neither infinite nor NaN, which JSON has not
            return number
    return word


def _slug(entry: Entry, query: FixtureQuery) -> str:
    """Name a fixture for people, unlike any other."""
    source = str(query.parameters.get("src_name", ""))
    return f"{_name(source)}-{entry.key[: told.SHORT]}" if source else entry.key[: told.SHORT]


def _name(text: str) -> str:
    """Make a name of a file or folder of a text, as the format of fixtures allows it."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("._").lower()[:60] or "unnamed"
