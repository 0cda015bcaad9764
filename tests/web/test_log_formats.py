"""The lines of the log as text and as JSON."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from oda_proxy.http.message import RequestNotes
from oda_proxy.metrics.outcomes import Outcome
from oda_proxy.web.log_formats import EVENT, MEMBERS, JsonFormatter, RequestRecord, TextFormatter, loggable_path

KEY = b"the key of a run"
PERSON = "somebody@example.org"


def request(notes: RequestNotes | None = None, **parts: Any) -> RequestRecord:
    status, outcome, at = "oda-proxy; hit", Outcome.HIT_HOT, 1_700_000_000.5
    record = RequestRecord(at, "ab-1", "POST", "/run_analysis", 200, status, outcome, 1234, 0.25, "192.0.2.1", notes)
    return record._replace(**parts)


def as_json(record: RequestRecord, *, log_people: bool = False) -> dict[str, Any]:
    line = JsonFormatter(KEY, log_people=log_people).request_line(record)
    assert "\n" not in line
    members: dict[str, Any] = json.loads(line)
    return members


def test_a_request_has_every_member_that_is_known() -> None:
    notes = RequestNotes("ab-1", "isgri", "isgri_image", "0" * 64, PERSON)

    members = as_json(request(notes))
    person = members.pop("person")

    assert members == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "info",
        "event": "request",
        "request_id": "ab-1",
        "client": "192.0.2.1",
        "method": "POST",
        "path": "/run_analysis",
        "status": 200,
        "outcome": "hit_hot",
        "cache_status": "oda-proxy; hit",
        "instrument": "isgri",
        "product": "isgri_image",
        "key": "0" * 64,
        "bytes": 1234,
        "seconds": 0.25,
    }
    assert len(person) == 16
    assert int(person, 16) >= 0


def test_what_is_not_known_is_left_out() -> None:
    members = as_json(request(RequestNotes("ab-1")))

    assert {"person", "instrument", "product", "key"}.isdisjoint(members)


def test_a_person_is_named_by_a_hash_that_depends_on_the_key_or_by_name_where_that_is_wanted() -> None:
    record = request(RequestNotes(subject=PERSON))
    hashes = {json.loads(JsonFormatter(key).request_line(record))["person"] for key in (KEY, KEY, b"another")}

    assert len(hashes) == 2
    assert PERSON not in str(hashes)
    assert as_json(record, log_people=True)["person"] == PERSON


def test_other_lines_have_a_message_and_events_their_members() -> None:
    plain = logging.makeLogRecord({"msg": "a %s\nb", "args": ("text",), "levelname": "WARNING", "created": 0.0})
    event = logging.makeLogRecord({"msg": "x", "levelname": "INFO", EVENT: "change", MEMBERS: {"count": 3}})

    assert json.loads(JsonFormatter(KEY).format(plain)) == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "warning",
        "event": "message",
        "message": "a text\nb",
    }
    members = json.loads(JsonFormatter(KEY).format(event))
    assert (members["event"], members["message"], members["count"]) == ("change", "x", 3)


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter(KEY)])
@pytest.mark.parametrize("path", ["/a\nb", "/\udcff", "/é", "/x" * 10_000, "*", ""])
def test_a_request_is_one_line_whatever_its_path(formatter: TextFormatter | JsonFormatter, path: str) -> None:
    assert "\n" not in formatter.request_line(request(path=path))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/mmoda/run_analysis", "/mmoda/run_analysis"),
        ("/dispatch-data/api/v1.0/oda/call_back", "/dispatch-data/api/v1.0/oda/call_back"),
        ("/static/main.css", "/static/main.css"),
        ("/a%3Ftoken=x/b", "/.../b"),
        (f"/{'a' * 25}/b", "/.../b"),
        ("/0123456789abcdef/b", "/.../b"),
        ("/SESSION/b", "/.../b"),
        ("", ""),
        ("/x" * 251, "/x" * 249 + "/..."),
        ("/x" * 250, "/x" * 250),
    ],
)
def test_a_part_of_a_path_that_may_be_a_token_is_left_out(path: str, expected: str) -> None:
    assert loggable_path(path) == expected


def test_a_method_that_a_client_made_up_is_not_logged() -> None:
    assert as_json(request(method="SECRET"))["method"] == "OTHER"
    assert "SECRET" not in TextFormatter().request_line(request(method="SECRET"))
