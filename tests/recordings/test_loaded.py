"""A recording in memory gives the bytes that splicing gives, for every client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.query import ENVELOPE, Envelope, Token
from oda_proxy.recordings.api_code import with_gaps
from oda_proxy.recordings.fits_cards import Gap
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.loaded import PIECE, SMALL, body, load
from oda_proxy.recordings.recording import PRODUCT_IDS, Recording, splice
from oda_proxy.recordings.tail_template import MAX_TEMPLATES
from tests.support.recordings import KEYS

CODE = """\
disp=DispatcherAPI(url='http://dispatcher.example/', instrument='mock')

par_dict={
    "RA": 83.0,
    "job_id": "x",
    "oda_api_version": "1.3.5",
    "query_status": "new",
    "token": "secret"
}
"""
OTHER_CODE = (
    'disp = DispatcherAPI(url="http://dispatcher.example/")\nprint("gap-0-session_id.", "\\u00e9\\U0001f600")\n'
)
TABLE = ['{"name": "t", "ascii": "a b"}', {"ascii": "c"}, "plain"]

texts = st.text(max_size=12) | st.sampled_from(["", "gap-0-session_id.", '"', "\\", '\\"', "\x00", "\udcff", "é", "😀"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
others = st.dictionaries(
    st.sampled_from(sorted(ENVELOPE - {"session_id", "job_id", "query_status", "token"})),
    st.sampled_from(["1.0.5", "1.1.0", "1.3.5"]) | texts,
)
envelopes = st.builds(
    Envelope,
    query_status=st.sampled_from(["new", "ready"]) | texts,
    session_id=texts,
    job_id=texts,
    token=st.none() | st.builds(Token, texts),
    others=others,
    sends_defaults=st.booleans(),
    is_verbose=st.booleans(),
)
cards = st.dictionaries(
    st.sampled_from(["TOKEN", "SESSION", "URL"]),
    st.sampled_from(["token", "session_id", "job_id"]) | st.just(["http://x?", "a=1", ["session_id"], ["token"]]),
)
members = st.fixed_dictionaries(
    {},
    optional={
        "api_code": st.sampled_from([with_gaps(CODE), with_gaps(OTHER_CODE), with_gaps("print()")]),
        "astropy_table_product_ascii_list": st.just(TABLE),
        "astropy_table_product_binary_list": st.just(["x"]),
        "binary_data_product_list": st.just([{"data": "x"}]),
    },
)
remarks = "Please note that arguments verbose, oda_api_version, nothing are not used"


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Return a recording of any form."""
    text = draw(st.sampled_from([b"", b'"catalog":{}', b'"catalog":"%b"' % (b"x" * 2 * SMALL), b"y" * (PIECE + 5)]))
    offsets = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    echo = draw(st.dictionaries(texts | st.sampled_from(sorted(ENVELOPE)), json_values, max_size=4))
    return Recording(
        key=KEYS[0],
        stored_at=1.0,
        head=MemoryHead(text),
        exit_status={"status": 0, "comment": draw(texts | st.just(remarks)), "job_status": "done"},
        parameters=draw(st.sampled_from([{}, {"analysis_parameters": echo}, {"analysis_paramters": echo}])),
        echoed=tuple(draw(st.lists(st.sampled_from(sorted(ENVELOPE)), unique=True))),
        job_id=draw(st.sampled_from(["", "job"])),
        client_members=draw(members),
        gaps=tuple(Gap(offset, draw(st.booleans()), draw(cards)) for offset in offsets),
        other_members=draw(st.dictionaries(texts, json_values, max_size=2)),
        product_ids=draw(st.sampled_from([(), PRODUCT_IDS, ("session_id",)])),
    )


def spliced(recording: Recording, envelope: Envelope, now: float, address: str) -> bytes:
    return b"".join(splice(recording, envelope, now=now, address=address))


def from_memory(recording: Any, envelope: Envelope, now: float, address: str) -> bytes:
    return b"".join(body(recording, envelope, now=now, address=address))


@given(recordings(), st.lists(envelopes, min_size=1, max_size=4), st.floats(0, 4e9), texts)
def test_an_answer_from_memory_has_the_bytes_of_a_spliced_one(
    recording: Recording, clients: list[Envelope], now: float, address: str
) -> None:
    loaded = load(recording, recording.head.pieces())

    for envelope in clients:
        for client in (envelope, replace(envelope, session_id="S" * 16), replace(envelope, query_status="ready")):
            assert from_memory(loaded, client, now, address) == spliced(recording, client, now, address)


@given(recordings(), envelopes, st.from_regex(r"[A-Za-z0-9_-]{1,100}", fullmatch=True), st.floats(0, 4e9), texts)
def test_the_tail_for_other_sessions_is_that_of_a_client_with_the_same_fields(
    recording: Recording, envelope: Envelope, session_id: str, now: float, address: str
) -> None:
    template = load(recording, recording.head.pieces()).template

    tail = template.for_sessions(envelope, address)

    for time in (0.0, now):
        expected = template.fill(replace(envelope, session_id=session_id), now=time, address=address)
        assert tail.fill(session_id, time) == expected


def made(size: int, **changes: Any) -> Recording:
    original = Recording(
        key=KEYS[0],
        stored_at=1.0,
        head=MemoryHead(b"x" * size),
        exit_status={"status": 0},
        parameters={"analysis_parameters": {"RA": 83.0}},
        echoed=("session_id", "token"),
        client_members={"api_code": with_gaps(CODE)},
    )
    return replace(original, **changes)


def test_a_small_answer_is_one_piece() -> None:
    recording = made(2000)

    (piece,) = body(load(recording, recording.head.pieces()), Envelope(session_id="S"), now=1.0, address="")

    assert isinstance(piece, bytes)


@pytest.mark.parametrize("gaps", [(), (Gap(5, False, {"SESSION": "session_id"}),)])
def test_the_head_of_a_large_answer_is_not_copied(gaps: tuple[Gap, ...]) -> None:
    text = b"x" * (3 * PIECE + 7)
    pieces = body(load(made(0, head=MemoryHead(text), gaps=gaps), (text,)), Envelope(), now=1.0, address="")

    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert sum(map(len, views)) == len(text)
    assert {id(view.obj) for view in views} == {id(text)}
    assert max(map(len, pieces)) <= PIECE


def test_clients_that_send_the_same_fields_share_a_template() -> None:
    loaded = load(made(10), (b"x" * 10,))
    for number in range(100):
        from_memory(loaded, Envelope("new", f"session {number}", token=Token(str(number))), float(number), "http://a")

    assert len(loaded.template._compiled) == 1


def test_a_recording_has_few_templates() -> None:
    loaded = load(made(10), (b"x" * 10,))
    for names in range(2 ** len(ENVELOPE)):
        sent = {name: "x" for bit, name in enumerate(sorted(ENVELOPE)) if names >> bit & 1}
        from_memory(loaded, Envelope(others=sent), 1.0, "http://a")

    assert len(loaded.template._compiled) == MAX_TEMPLATES
