"""Messages between the parent process and a worker."""

from __future__ import annotations

import pytest

from oda_proxy.workers.channel import MAX_LINE, Lines, Report, Roles, encode, read_report, read_roles

REPORTS = [Report("ready"), Report("heartbeat"), Report("failed", "cannot listen on ::1\nport 5")]
ROLES = [Roles(None, ()), Roles(1, (0, 1))]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_messages_are_read_as_they_were_sent_however_they_are_split(size: int) -> None:
    sent = b"".join(map(encode, REPORTS))
    lines = Lines()
    found: list[Report] = []
    for at in range(0, len(sent), size):
        found += map(read_report, lines.feed(sent[at : at + size]))

    assert found == REPORTS


@pytest.mark.parametrize("roles", ROLES)
def test_roles_are_read_as_they_were_sent(roles: Roles) -> None:
    assert [read_roles(members) for members in Lines().feed(encode(roles))] == [roles]


@pytest.mark.parametrize("sent", [b"\n", b"[]\n", b"{\n", b'{"event": "other"}\n', b"{}\n", b"x" * (MAX_LINE + 1)])
def test_what_is_no_message_is_refused(sent: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        list(map(read_report, Lines().feed(sent)))
