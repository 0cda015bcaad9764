"""Thirty clients behind nginx with TLS and a prefix see nothing of a restart of the proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.front_end import nginx
from tests.support.users import restart_behind_front_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

CROWD = [("1.3.5", 10), ("1.0", 10), ("1.3.5", 10)]
"""None of them sends a request again that has failed."""


def test_nobody_sees_an_error_that_the_dispatcher_would_not_have_sent(
    client_python: Callable[[str], Path], tmp_path: Path
) -> None:
    nginx()
    result = restart_behind_front_end(tmp_path, client_python, CROWD)

    assert result.unexpected == {}
    assert all(len(expected) == 64 for expected in result.expected)
    assert len(set(result.expected)) > 1
    assert result.jobs_at_restart > 0
    assert result.after >= 30
    statuses = {line.split('" ')[1].split()[0] for line in result.access_log.splitlines()}
    assert statuses == {"200"}
