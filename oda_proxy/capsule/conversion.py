"""Recordings as fixtures, and fixtures as recordings.

A fixture is for people: arrays in FITS files, numbers as numbers. What of a recording it does not say in that way
stands in its answer.json under `recorded`, so that the way there and back loses nothing: the key, the dispatcher's echo
of the request, the words of the query where they are not what its numbers would be written as.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec.json_text import JsonObject
from oda_proxy.compat import screening
from oda_proxy.compat.repairs import repaired
from oda_proxy.errors import CodecError, FixtureError, OdaProxyError
from oda_proxy.fixture.json_files import ANSWER_FILE, MAX_ELAPSED
from oda_proxy.fixture.model import STATES, FixtureAnswer, FixtureQuery
from oda_proxy.query.cache_key import KEY_VERSION, Key, key_of
from oda_proxy.query.query import Envelope, split_query
from oda_proxy.recordings import fits_cards, serialisation
from oda_proxy.recordings.recording import redact
from oda_proxy.recordings.redaction import NotStorableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oda_proxy.fixture.reading import Fixture
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.recordings.serialisation import MemberPath

_NOBODY: Final = Envelope(query_status="new")
_ECHOED: Final[Mapping[str, Any]] = {
    "session_id": "",
    "query_status": "new",
    "oda_api_version": "",
    "off_line": "False",
}
"""What a dispatcher says of the asker in its echo: whoever asks later stands there."""

_OWN_FIELDS: Final = frozenset({"dry_run"})
"""Parameters that have a field of their own in a fixture."""

_API_CODE: Final = "api_code"
_SHORT: Final = 12
"""Digits of a key in the name of a fixture."""


class NoFixtureError(OdaProxyError):
    """A recording cannot be a fixture, or a fixture a recording."""


def products_of(recording: Recording) -> dict[str, Any]:
    """Give `products` as on the wire, without what is made anew for each asker; reads the whole head.

    Raises CodecError for what is no JSON, StoreUnusableError where it cannot be read.
    """
    return _parsed(b"".join(recording.head.pieces())) | _formed(recording)


def to_fixture(recording: Recording) -> tuple[str, FixtureQuery, FixtureAnswer]:
    """Give the path of a recording's fixture, what was asked and what came back; reads the whole head.

    Raises NoFixtureError where it is not known what was asked, otherwise as `products_of`.
    """
    if recording.query is None:
        raise NoFixtureError("what was asked is not known")
    products, places = _without_gaps(recording)
    query = _fixture_query(recording.query)
    answer = FixtureAnswer("done", _told_status(recording), _told_timeline(recording), products)
    answer = replace(answer, recorded=_recorded(recording, query, answer, places))
    path = "/".join((_name(query.instrument), _name(query.product_type), _slug(recording, query)))
    return path, query, answer


def to_recording(one: Fixture, *, now: float) -> Recording:
    """Make a recording of a fixture, as of an answer that came from a dispatcher: repaired, screened, redacted.

    `now`, in s since 1970 (UTC), is when one was stored that does not say so itself. Raises NoFixtureError for what is
    no answer that may be kept, CodecError for what has no form on the wire, FixtureError where a file cannot be read.
    """
    asked, answer = one.query(), one.answer()
    if answer.query_status != "done":
        raise NoFixtureError(f"its answer is {answer.query_status!r}, and failures are not kept")
    products = one.wire_products()
    if names := screening.forbidden_names(products):
        raise NoFixtureError(f"a client that reads it would load {', '.join(names)}")
    if answer.recorded is None:
        echo = {"instrument": asked.instrument, "product_type": asked.product_type, "query_type": asked.query_type}
        echoes = {"analysis_parameters": {**_ECHOED, **echo, **asked.parameters}}
        recording = _redacted(answer, products, echoes, now)
        query = _query(asked)
        cost = answer.timeline[-1][1] if answer.timeline else 0.0
        return replace(recording, query=query, cost=cost, timeline=answer.timeline, key=key_of(query))
    try:
        return _as_recorded(asked, answer, products)
    except CodecError as error:
        raise FixtureError(one.file(ANSWER_FILE), f"'recorded': {error}") from None


def key_in(one: Fixture) -> Key:
    """Read the key of a recording that became a fixture; raises CodecError for one that never was."""
    recorded = one.answer().recorded
    if recorded is None:
        raise CodecError("says no key: it was not recorded")
    return serialisation.read_key(JsonObject(dict(recorded)), "key")


def refuse_unsafe(one: Fixture) -> None:
    """Raise NoFixtureError where a client would load from a fixture what is not on the allow-list.

    Arrays in FITS files cannot do so: they are encoded by us. Raises FixtureError where a file cannot be read.
    """
    if names := screening.forbidden_names(one.verbatim()):
        raise NoFixtureError(f"a client that reads it would load {', '.join(names)}")


# -- a recording's fixture -------------------------------------------------------------------------


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        products: dict[str, Any] = json.loads(b"{%b}" % text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"the recording is no JSON: {error}") from None
    return products


def _formed(recording: Recording) -> dict[str, Any]:
    return {name: value for name, value in recording.client_members.items() if name != _API_CODE}


_MARK: Final = "\0"


def _without_gaps(recording: Recording) -> tuple[dict[str, Any], list[MemberPath]]:
    """Give `products` as on the wire, and the headers with gaps: offsets in the text do not survive in a fixture."""
    marks = [(gap.offset, f"{',' * gap.follows}{json.dumps(_MARK)}:0".encode("ascii")) for gap in recording.gaps]
    products = _parsed(b"".join(fits_cards.interleave(recording.head.pieces(), marks)))
    places = list(_marked(products)) if marks else []
    for place in places:
        del serialisation.follow(products, place)[_MARK]
    if len(places) != len(marks):
        raise CodecError("the recording names its asker where there is no header")
    return products | _formed(recording), places


def _marked(value: Any, at: MemberPath = ()) -> Iterator[MemberPath]:
    """Find the objects with a mark, in the order of the text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from [at] if name == _MARK else _marked(inner, (*at, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _marked(inner, (*at, number))


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


def _told_status(recording: Recording) -> dict[str, str | int]:
    """Give `exit_status` as the format has it: the status is a number, all else text."""
    told = {name: str(value) for name, value in recording.exit_status.items() if value is not None}
    return {**told, "status": 0}


def _told_timeline(recording: Recording) -> tuple[tuple[str, float], ...]:
    """Give the states that a client saw; one that only saw the end asked for what is answered at once."""
    timeline = recording.timeline
    if not timeline:
        return (("submitted", 0.0), ("ready", recording.cost)) if recording.cost else ()
    known = all(state in STATES and 0 <= at <= MAX_ELAPSED for state, at in timeline)
    in_order = [at for _, at in timeline] == sorted(at for _, at in timeline)
    return timeline if known and in_order and {state for state, _ in timeline} != {"done"} else ()


def _recorded(
    recording: Recording, query: FixtureQuery, answer: FixtureAnswer, places: list[MemberPath]
) -> dict[str, Any]:
    """Say what a recording says of itself, as far as the fixture does not say so."""
    said: dict[str, Any] = {
        "key": recording.key,
        "key_version": KEY_VERSION,
        "stored_at": recording.stored_at,
        "cost": recording.cost,
        "private": recording.private,
        "echo": dict(recording.parameters),
        "echoed": list(recording.echoed),
    }
    if _query(query) != recording.query and recording.query:
        said["query"] = serialisation.dump_query(recording.query)
    if json.dumps(answer.exit_status) != json.dumps(recording.exit_status):
        said["exit_status"] = dict(recording.exit_status)
    if answer.timeline != recording.timeline:
        said["timeline"] = [list(moment) for moment in recording.timeline]
    if _API_CODE in recording.client_members:
        said[_API_CODE] = recording.client_members[_API_CODE]
    if places:
        said["gaps"] = [
            {"at": list(place), "cards": gap.cards} for place, gap in zip(places, recording.gaps, strict=True)
        ]
    return said


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


def _slug(recording: Recording, query: FixtureQuery) -> str:
    """Name a fixture for people, unlike any other."""
    source = str(query.parameters.get("src_name", ""))
    return f"{_name(source)}-{recording.key[:_SHORT]}" if source else recording.key[:_SHORT]


def _name(text: str) -> str:
    """Make a name of a file or folder of a text, as the format of fixtures allows it."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("._").lower()[:60] or "unnamed"


# -- a fixture's recording -------------------------------------------------------------------------


def _as_recorded(asked: FixtureQuery, answer: FixtureAnswer, products: dict[str, Any]) -> Recording:
    """Put together what was recorded; raises CodecError where that is not as `_recorded` writes it."""
    said = JsonObject(dict(answer.recorded or {}))
    echoes = {name: JsonObject.of(echo).members for name, echo in said.mapping("echo").items()}
    gaps = said.objects("gaps") if "gaps" in said.members else []
    for gap in gaps:
        _put_cards(gap, products)
    recording = _redacted(answer, products, echoes, serialisation.read_seconds(said, "stored_at"))
    if len(recording.gaps) != len(gaps):
        raise CodecError("'gaps' are not where dispatchers have them")
    query = serialisation.read_query(JsonObject.of(said.members["query"])) if "query" in said.members else _query(asked)
    private = said.boolean("private", default=True)
    is_of_today = said.count("key_version") == KEY_VERSION or private
    program = {_API_CODE: serialisation.read_program(said.members[_API_CODE])} if _API_CODE in said.members else {}
    return replace(
        recording,
        key=serialisation.read_key(said, "key") if is_of_today else key_of(query),
        exit_status=said.mapping("exit_status", dict(answer.exit_status)),
        echoed=serialisation.read_texts(said, "echoed"),
        query=query,
        private=private,
        cost=serialisation.read_seconds(said, "cost"),
        timeline=_timeline(said.items("timeline")) if "timeline" in said.members else answer.timeline,
        client_members={**recording.client_members, **program},
    )


def _put_cards(gap: JsonObject, products: dict[str, Any]) -> None:
    """Write the cards of nobody where an asker's stood, for the redaction to take them out again."""
    header = serialisation.follow(products, gap.items("at"))
    if not isinstance(header, dict):
        raise CodecError("'gaps' leads nowhere")
    for name, told in gap.mapping("cards").items():
        match told:
            case str():
                header[name] = _NOBODYS
            case [str() as before, *parts] if all(_is_part(part) for part in parts):
                header[name] = before + "&".join(
                    part if isinstance(part, str) else f"{part[0]}={_NOBODYS}" for part in parts
                )
            case _:
                raise CodecError("'gaps' holds what is no card")


_NOBODYS: Final = "x"


def _is_part(part: Any) -> bool:
    match part:
        case str() | [str()]:
            return True
    return False


def _timeline(moments: list[Any]) -> tuple[tuple[str, float], ...]:
    read = []
    for moment in moments:
        match moment:
            case [str() as state, int() | float() as at] if not isinstance(at, bool):
                read.append((state, float(at)))
            case _:
                raise CodecError("'timeline' should be a list of states, each with seconds")
    return tuple(read)


def _redacted(
    answer: FixtureAnswer, products: dict[str, Any], echoes: Mapping[str, Any], stored_at: float
) -> Recording:
    """Make a recording of an answer with these products, as if it had just come."""
    body = {"query_status": "done", "exit_status": dict(answer.exit_status), "products": {**products, **echoes}}
    try:
        text = repaired(json.dumps(body).encode("ascii"), _OK, _NOBODY)
        return redact(text, _NOBODY, key=Key(""), stored_at=stored_at)
    except NotStorableError as error:
        raise NoFixtureError(f"it is not kept: {error}") from None
    except ValueError as error:
        raise CodecError(f"it has no form on the wire: {error}") from None


_OK: Final = 200


def _query(asked: FixtureQuery) -> Query:
    """Give the query that a client sends for what was asked."""
    pairs = [("instrument", asked.instrument), ("product_type", asked.product_type), ("query_type", asked.query_type)]
    pairs += [("api", "True")] if asked.api else []
    pairs += [("dry_run", "True")] if asked.dry_run else []
    for name, value in asked.parameters.items():
        pairs += [(name, str(word)) for word in (value if isinstance(value, list) else [value])]
    return split_query(pairs, asked.files.items())[0]
