"""Lossless conversion between recordings and fixtures.

A fixture is readable: arrays are FITS files, numbers are numbers. The remaining members of a recording are in its
answer.json under `recorded`: the key, the dispatcher's echo of the request, and the text of the query where its
numbers were not written in the shortest form.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec.json_text import JsonObject
from oda_proxy.compat import screening
from oda_proxy.compat.answer_repairs import repaired
from oda_proxy.errors import CodecError, FixtureError, OdaProxyError
from oda_proxy.fixture.json_files import ANSWER_FILE, MAX_ELAPSED
from oda_proxy.fixture.model import STATES, FixtureAnswer, FixtureQuery
from oda_proxy.query.cache_key import KEY_VERSION, Key, key_of, short_key
from oda_proxy.query.query import Envelope, split_query
from oda_proxy.recordings import fits_cards, serialisation
from oda_proxy.recordings.recording import PRODUCT_IDS, redact
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oda_proxy.fixture.reading import Fixture
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.recordings.serialisation import MemberPath

_NO_CLIENT: Final = Envelope(query_status="new")
_ECHOED: Final[Mapping[str, Any]] = {
    "session_id": "",
    "query_status": "new",
    "oda_api_version": "",
    "off_line": "False",
}
"""Members of the client in a dispatcher's echo; they are replaced for each client."""

_OWN_FIELDS: Final = frozenset({"dry_run"})
"""Parameters that are a field of their own in a fixture."""

_API_CODE: Final = "api_code"


class ConversionError(OdaProxyError):
    """A recording cannot be converted to a fixture, or a fixture to a recording."""


def wire_products(recording: Recording) -> dict[str, Any]:
    """Return `products` in the wire form, without members that differ for each client; reads the whole head.

    Raises CodecError where the recording is not JSON, StoreUnusableError where it cannot be read.
    """
    return _parsed(b"".join(recording.head.pieces())) | _small_members(recording)


def fixture_from_recording(recording: Recording) -> tuple[str, FixtureQuery, FixtureAnswer]:
    """Return the path, query and answer of a recording's fixture; reads the whole head.

    Raises ConversionError for a recording without its query, otherwise as `wire_products`.
    """
    if recording.query is None:
        raise ConversionError("the query of the recording is not known")
    products, places = _without_gaps(recording)
    query = _fixture_query(recording.query)
    answer = FixtureAnswer("done", _exit_status(recording), _fixture_timeline(recording), products)
    answer = replace(answer, recorded=_recorded(recording, query, answer, places))
    path = "/".join((_name(query.instrument, 12), _name(query.product_type, 15), _slug(recording, query)))
    return path, query, answer


def recording_from_fixture(fixture: Fixture, *, now: float) -> Recording:
    """Return the recording of a fixture: repaired, screened and redacted, as an answer of a dispatcher.

    `now`, in s since 1970 (UTC), is the default for the time when it was stored. Raises ConversionError for an answer
    that may not be stored, CodecError for one without a wire form, FixtureError where a file cannot be read.
    """
    query, answer = fixture.query(), fixture.answer()
    if answer.query_status != "done":
        raise ConversionError(f"its answer is {answer.query_status!r}, and failures are not stored")
    products = fixture.wire_products()
    if names := screening.forbidden_names(products):
        raise ConversionError(f"a client that reads it would load {', '.join(names)}")
    if answer.recorded is None:
        echo = {"instrument": query.instrument, "product_type": query.product_type, "query_type": query.query_type}
        echoes = {"analysis_parameters": {**_ECHOED, **echo, **query.parameters}}
        recording = _redacted(answer, products, echoes, now)
        sent = _query(query)
        cost = answer.timeline[-1][1] if answer.timeline else 0.0
        return replace(
            recording, query=sent, cost=cost, timeline=answer.timeline, key=key_of(sent), product_ids=PRODUCT_IDS
        )
    try:
        return _as_recorded(query, answer, products)
    except CodecError as error:
        raise FixtureError(fixture.file(ANSWER_FILE), f"'recorded': {error}") from None


def recorded_key(fixture: Fixture) -> Key:
    """Read the key of the recording of a fixture. Raises CodecError for a fixture that was not recorded."""
    recorded = fixture.answer().recorded
    if recorded is None:
        raise CodecError("has no key: it was not recorded")
    return serialisation.read_key(JsonObject(dict(recorded)), "key")


def check_safe(fixture: Fixture) -> None:
    """Raise ConversionError where a client would load something from a fixture that is not on the allow-list.

    Arrays in FITS files are safe: we encode them. Raises FixtureError where a file cannot be read.
    """
    if names := screening.forbidden_names(fixture.verbatim()):
        raise ConversionError(f"a client that reads it would load {', '.join(names)}")


# -- a recording's fixture -------------------------------------------------------------------------


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        products: dict[str, Any] = json.loads(b"{%b}" % text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"the recording is not JSON: {error}") from None
    return products


def _small_members(recording: Recording) -> dict[str, Any]:
    return {name: value for name, value in recording.client_members.items() if name != _API_CODE}


_MARK: Final = "\0"


def _without_gaps(recording: Recording) -> tuple[dict[str, Any], list[MemberPath]]:
    """Return `products` in the wire form and the places of headers with gaps, as a fixture has no offsets in a text."""
    marks = [(gap.offset, f"{',' * gap.follows}{json.dumps(_MARK)}:0".encode("ascii")) for gap in recording.gaps]
    products = _parsed(b"".join(fits_cards.interleave(recording.head.pieces(), marks)))
    places = list(_marked(products)) if marks else []
    for place in places:
        del serialisation.follow(products, place)[_MARK]
    if len(places) != len(marks):
        raise CodecError("the recording names its client outside of a header")
    return products | _small_members(recording), places


def _marked(value: Any, at: MemberPath = ()) -> Iterator[MemberPath]:
    """Find the objects with a mark, in the order of the text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from [at] if name == _MARK else _marked(inner, (*at, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _marked(inner, (*at, number))


def _fixture_query(query: Query) -> FixtureQuery:
    parameters = {name: values for name, values in query.parameters if name not in _OWN_FIELDS}
    return FixtureQuery(
        instrument=query.instrument,
        product_type=query.product_type,
        query_type=query.query_type,
        parameters={
            name: _number_or_text(values[0]) if len(values) == 1 else list(values)
            for name, values in parameters.items()
        },
        api=query.api,
        dry_run=dict(query.parameters).get("dry_run", ("False",)) != ("False",),
        files=dict(query.files),
    )


def _exit_status(recording: Recording) -> dict[str, str | int]:
    """Return `exit_status` in the format of fixtures: the status is a number, all else text."""
    exit_status = {name: str(value) for name, value in recording.exit_status.items() if value is not None}
    return {**exit_status, "status": 0}


def _fixture_timeline(recording: Recording) -> tuple[tuple[str, float], ...]:
    """Return the states that a client saw; none for a query that was answered at once."""
    timeline = recording.timeline
    if not timeline:
        return (("submitted", 0.0), ("ready", recording.cost)) if recording.cost else ()
    is_valid = all(state in STATES and 0 <= at <= MAX_ELAPSED for state, at in timeline)
    in_order = [at for _, at in timeline] == sorted(at for _, at in timeline)
    return timeline if is_valid and in_order and {state for state, _ in timeline} != {"done"} else ()


def _recorded(
    recording: Recording, query: FixtureQuery, answer: FixtureAnswer, places: list[MemberPath]
) -> dict[str, Any]:
    """Return the members of a recording that the rest of the fixture does not hold."""
    recorded: dict[str, Any] = {
        "key": recording.key,
        "key_version": KEY_VERSION,
        "stored_at": recording.stored_at,
        "cost": recording.cost,
        "private": recording.private,
        "echo": dict(recording.parameters),
        "echoed": list(recording.echoed),
    }
    if _query(query) != recording.query and recording.query:
        recorded["query"] = serialisation.dump_query(recording.query)
    if json.dumps(answer.exit_status) != json.dumps(recording.exit_status):
        recorded["exit_status"] = dict(recording.exit_status)
    if answer.timeline != recording.timeline:
        recorded["timeline"] = [list(moment) for moment in recording.timeline]
    if _API_CODE in recording.client_members:
        recorded[_API_CODE] = recording.client_members[_API_CODE]
    if recording.other_members:
        recorded["other_members"] = dict(recording.other_members)
    if recording.product_ids != PRODUCT_IDS:
        recorded["product_ids"] = list(recording.product_ids)
    if places:
        recorded["gaps"] = [
            {"at": list(place), "cards": gap.cards} for place, gap in zip(places, recording.gaps, strict=True)
        ]
    return recorded


def _number_or_text(word: str) -> str | int | float:
    """Return the number whose shortest form is this word, else the word."""
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if repr(number) == word and number - number == 0:  # finite, as JSON has neither infinity nor NaN
            return number
    return word


def _slug(recording: Recording, query: FixtureQuery) -> str:
    """Return a readable and unique name for a fixture."""
    source = str(query.parameters.get("src_name", ""))
    return f"{_name(source, 9)}-{short_key(recording.key)}" if source else short_key(recording.key)


def _name(text: str, longest: int) -> str:
    """Return a text as the name of a folder in the format of fixtures; paths in a capsule have up to 120 characters."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("._").lower()[:longest].rstrip("._") or "unnamed"


# -- a fixture's recording -------------------------------------------------------------------------


def _as_recorded(fixture_query: FixtureQuery, answer: FixtureAnswer, products: dict[str, Any]) -> Recording:
    """Restore a recording from the member `recorded`. Raises CodecError where that is not as `_recorded` writes it."""
    recorded = JsonObject(dict(answer.recorded or {}))
    echoes = {name: JsonObject.of(echo).members for name, echo in recorded.mapping("echo").items()}
    gaps = recorded.objects("gaps") if "gaps" in recorded.members else []
    for gap in gaps:
        _put_cards(gap, products)
    others = recorded.mapping("other_members", {})
    recording = _redacted(answer, products, echoes, serialisation.read_seconds(recorded, "stored_at"), others)
    if len(recording.gaps) != len(gaps):
        raise CodecError("'gaps' are not where dispatchers have them")
    query = (
        serialisation.read_query(JsonObject.of(recorded.members["query"]))
        if "query" in recorded.members
        else _query(fixture_query)
    )
    private = recorded.boolean("private", default=True)
    key_is_current = recorded.count("key_version") == KEY_VERSION or private
    program = (
        {_API_CODE: serialisation.read_program(recorded.members[_API_CODE])} if _API_CODE in recorded.members else {}
    )
    ids = serialisation.read_texts(recorded, "product_ids") if "product_ids" in recorded.members else PRODUCT_IDS
    return replace(
        recording,
        product_ids=tuple(name for name in PRODUCT_IDS if name in ids),
        key=serialisation.read_key(recorded, "key") if key_is_current else key_of(query),
        exit_status=recorded.mapping("exit_status", dict(answer.exit_status)),
        echoed=serialisation.read_texts(recorded, "echoed"),
        query=query,
        private=private,
        cost=serialisation.read_seconds(recorded, "cost"),
        timeline=_timeline(recorded.items("timeline")) if "timeline" in recorded.members else answer.timeline,
        client_members={**recording.client_members, **program},
    )


def _put_cards(gap: JsonObject, products: dict[str, Any]) -> None:
    """Fill the cards of the client with placeholders, which the redaction then removes again."""
    header = serialisation.follow(products, gap.items("at"))
    if not isinstance(header, dict):
        raise CodecError("'gaps' leads nowhere")
    for name, card in gap.mapping("cards").items():
        match card:
            case str():
                header[name] = _PLACEHOLDER
            case [str() as before, *parts] if all(_is_part(part) for part in parts):
                header[name] = before + "&".join(
                    part if isinstance(part, str) else f"{part[0]}={_PLACEHOLDER}" for part in parts
                )
            case _:
                raise CodecError("'gaps' holds something that is not a card")


_PLACEHOLDER: Final = "x"


def _is_part(part: Any) -> bool:
    match part:
        case str() | [str()]:
            return True
    return False


def _timeline(moments: list[Any]) -> tuple[tuple[str, float], ...]:
    timeline = []
    for moment in moments:
        match moment:
            case [str() as state, int() | float() as at] if not isinstance(at, bool):
                timeline.append((state, float(at)))
            case _:
                raise CodecError("'timeline' should be a list of states, each with seconds")
    return tuple(timeline)


def _redacted(
    answer: FixtureAnswer,
    products: dict[str, Any],
    echoes: Mapping[str, Any],
    stored_at: float,
    others: Mapping[str, Any] = MappingProxyType({}),
) -> Recording:
    """Return the recording of an answer with these products and other members, as received from a dispatcher."""
    body = {**others, "query_status": "done", "exit_status": dict(answer.exit_status)}
    body["products"] = {**products, **echoes}
    try:
        text = repaired(json.dumps(body).encode("ascii"), _OK, _NO_CLIENT)
        return redact(text, _NO_CLIENT, key=Key(""), stored_at=stored_at)
    except NotStorableError as error:
        raise ConversionError(f"it is not stored: {error}") from None
    except ValueError as error:
        raise CodecError(f"it has no wire form: {error}") from None


_OK: Final = 200


def _query(query: FixtureQuery) -> Query:
    """Return the query that a client sends."""
    pairs = [("instrument", query.instrument), ("product_type", query.product_type), ("query_type", query.query_type)]
    pairs += [("api", "True")] if query.api else []
    pairs += [("dry_run", "True")] if query.dry_run else []
    for name, value in query.parameters.items():
        pairs += [(name, str(word)) for word in (value if isinstance(value, list) else [value])]
    return split_query(pairs, query.files.items())[0]
