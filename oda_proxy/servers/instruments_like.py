"""The descriptions of a dispatcher's instruments: from a running one, or from those stored with its recordings."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from oda_proxy.codec import json_text
from oda_proxy.errors import CodecError, FixtureError, OdaProxyError, UsageError
from oda_proxy.files.archives import is_archive, open_tree
from oda_proxy.fixture import json_files
from oda_proxy.fixture.json_files import MANIFEST, naming_file
from oda_proxy.fixture.meta_data import read_instrument
from oda_proxy.fixture.outputs import outputs_of
from oda_proxy.fixture.reading import open_folder
from oda_proxy.http.message import Request
from oda_proxy.upstream.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oda_proxy.files.trees import FileTree
    from oda_proxy.fixture.model import Instrument, OutputDescription
    from oda_proxy.fixture.reading import Fixture

log = logging.getLogger(__name__)

_OK: Final = 200
_LARGEST: Final = 4 * 2**20
_MOST_INSTRUMENTS: Final = 1000
_LONGEST: Final = 120.0
"""Seconds for the whole of one response."""
_HEADERS: Final = (("Accept-Encoding", "identity"), ("Via", "1.1 oda-proxy"))
_INSTR_LIST: Final = "/instr-list?instrument=mock"
"""With the argument that clients send, because dispatchers up to 1.3.3 need it."""
_DESCRIPTIONS: Final = "descriptions"
_SCHEMES: Final = ("http://", "https://")


class NoDescriptionsError(OdaProxyError):
    """A dispatcher or a folder that describes no instrument."""


async def instruments_like(source: str) -> tuple[Instrument, ...]:
    """Read the descriptions of all instruments, sorted by name.

    Parameters
    ----------
    source
        The URL of a dispatcher, or the path of a capsule, packed or not, or of a folder of recordings. Recordings in a
        capsule also have the outputs of their products, and whether these come at once.

    Raises
    ------
    NoDescriptionsError
        There are none.
    OdaProxyError
        The dispatcher cannot be reached, or a description cannot be read.
    """
    if source.startswith(_SCHEMES):
        return await _of_dispatcher(source)
    return await asyncio.to_thread(_of_files, source)


async def _of_dispatcher(url: str) -> tuple[Instrument, ...]:
    """Read the descriptions one by one; an instrument whose description cannot be had is left out with a warning."""
    async with Dispatcher(url, read_timeout=60.0) as upstream:
        # `api/instr-list` of today redirects to the public address, which may be another dispatcher.
        names = await _first_list(upstream, (_INSTR_LIST, f"/api{_INSTR_LIST}"))
        if len(names) > _MOST_INSTRUMENTS:
            raise NoDescriptionsError(f"{url} lists {len(names)} instruments, more than {_MOST_INSTRUMENTS}")
        instruments = []
        for name in sorted({str(name) for name in names}):
            try:
                instruments.append(await _instrument(upstream, name))
            except (CodecError, NoDescriptionsError) as error:
                log.warning("%s: the instrument %r is left out: %s", url, name[:60], error)
    if not instruments:
        raise NoDescriptionsError(f"{url} describes no instrument")
    return tuple(instruments)


async def _instrument(upstream: Dispatcher, name: str) -> Instrument:
    json_files.check_path(f"{name}.json", parts=1)
    query = f"instrument={quote(name, safe='')}"
    status, meta_data = await _get(upstream, f"/api/meta-data?{query}")
    if status != _OK:
        raise NoDescriptionsError(f"the dispatcher lists it, but answers {status} about it")
    status, text = await _get(upstream, f"/api/par-names?{query}")
    par_names = _list(text, "api/par-names") if status == _OK else []
    instrument = read_instrument(meta_data, [one for one in par_names if isinstance(one, str)])
    if instrument.name != name:
        raise NoDescriptionsError(f"the dispatcher describes {instrument.name[:60]!r} instead")
    return instrument


async def _first_list(upstream: Dispatcher, paths: Iterable[str]) -> list[Any]:
    statuses = []
    for path in paths:
        status, text = await _get(upstream, path)
        if status == _OK:
            return _list(text, f"{upstream.url}{path}")
        statuses.append(f"{status} for {path}")
    raise NoDescriptionsError(
        f"{upstream.url} lists no instruments ({', '.join(statuses)}): give the URL that clients use, which often "
        "ends in /dispatch-data"
    )


async def _get(upstream: Dispatcher, target: str) -> tuple[int, bytes]:
    try:
        async with asyncio.timeout(_LONGEST):
            return await _read(upstream, target)
    except TimeoutError:
        raise NoDescriptionsError(f"{upstream.url}{target} was not read within {_LONGEST:g} s") from None


async def _read(upstream: Dispatcher, target: str) -> tuple[int, bytes]:
    path, _, query = target.partition("?")
    reply = await upstream.send(Request("GET", path, query, _HEADERS))
    try:
        content = b""
        async for piece in reply.body:
            content += piece
            if len(content) > _LARGEST:
                raise NoDescriptionsError(f"{upstream.url}{path} has more than {_LARGEST} bytes")
        return reply.status, content
    finally:
        await reply.body.aclose()


def _list(text: bytes, source: str) -> list[Any]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list):
        raise NoDescriptionsError(f"{source}: expected a list as JSON, found {text[:60]!r}")
    return names


def _of_files(path: str) -> tuple[Instrument, ...]:
    """Read the newest description of each instrument in any `descriptions` folder, with the outputs of recordings."""
    place = Path(path)
    if not place.is_dir() and not (place.is_file() and is_archive(place)):
        raise UsageError(
            f"--like {path}: give the URL of a dispatcher, beginning with http, or an existing folder or archive"
        )
    found: dict[str, Instrument] = {}
    with open_tree(place) as tree:
        files = [PurePosixPath(relative) for relative in tree.files_below("")]
        for file in files:
            if file.suffix == ".json" and file.parent.name == _DESCRIPTIONS:
                with naming_file(tree.path / file):
                    texts = _stored_texts(tree.read_start(str(file), _LARGEST)[0])
                    if texts:
                        instrument = read_instrument(texts[0])
                        found.setdefault(instrument.name, instrument)
        manifests = [file.parent for file in files if file.name == MANIFEST]
        recorded = [fixture for folder in manifests for fixture in _fixtures(tree.below(str(folder)))]
        if not found:
            raise NoDescriptionsError(f"there are no descriptions of instruments in {place}")
        return tuple(_with_outputs(found[name], recorded) for name in sorted(found))


def _stored_texts(content: bytes) -> list[str]:
    """Return the stored descriptions of an instrument, newest first; none for other responses in the same folder."""
    document = json_text.loads(content)
    texts = document.get("meta_data") if isinstance(document, dict) else None
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []


def _fixtures(folder: FileTree) -> tuple[Fixture, ...]:
    """Return the recordings of a folder; none for another kind of manifest."""
    try:
        return open_folder(folder).fixtures
    except FixtureError:
        return ()


def _with_outputs(instrument: Instrument, recorded: Iterable[Fixture]) -> Instrument:
    outputs: dict[str, tuple[OutputDescription, ...]] = {}
    immediate: dict[str, bool] = {}
    for fixture in recorded:
        query, answer = fixture.query(), fixture.answer()
        if query.instrument != instrument.name or answer.query_status != "done" or not query.api:
            continue
        product = instrument.prod_dict.get(query.product_type, "")
        outputs.setdefault(product, outputs_of(answer.products))
        immediate[product] = immediate.get(product, True) and not answer.timeline
    queries = tuple(
        replace(query, outputs=outputs[query.query_name], synchronous=immediate[query.query_name])
        if query.query_name in outputs
        else query
        for query in instrument.queries
    )
    return replace(instrument, queries=queries)
