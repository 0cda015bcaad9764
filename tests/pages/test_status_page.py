"""The status as a page: every member, with a name and a unit that a person reads."""

from __future__ import annotations

from oda_proxy.pages.status_page import groups_of
from tests.pages.test_overview import plain


def test_every_member_is_shown() -> None:
    groups = groups_of(
        {
            "version": "1.0",
            "upstream": None,
            "store": {"recordings": 123_456, "occupied": 2_500_000, "faults": [{"doing": "read", "since": 1e9}]},
            "run_analysis": {"hits": 5, "unsafe": {}},
            "asking": {"state": "closed", "until": None, "nested": {"deep": {"deeper": {"deepest": {"x": 1}}}}},
            "is_new": True,
        }
    )

    found = {group.name: {fact.name: plain(fact.value) for fact in group.facts} for group in groups}
    assert found["Server"] == {"version": "1.0", "upstream": "none", "is new": "yes"}
    assert found["Store"] == {
        "recordings": "123'456",
        "size": "2.5 MB",
        "faults 1: doing": "read",
        "faults 1: since": "2001-09-09 01:46:40 UTC",
    }
    assert found["Queries since the start"] == {"hits": "5", "answers that would run a program": "none"}
    assert found["Dispatcher"]["state"] == "closed"
    assert found["Dispatcher"]["until"] == "none"
    assert len(found["Dispatcher"]) == 3


def test_a_long_value_is_cut() -> None:
    [server] = groups_of({"x": "y" * 10_000})

    assert len(server.facts[0].value) < 600
