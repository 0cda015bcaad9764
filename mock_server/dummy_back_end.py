"""The files by which suites command the back end of the dispatcher's dummy instruments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mock_server.jobs import State

_STATE_FILE: Final = "DataServerQuery-status.state"
_P_FILE: Final = "ReturnProgressProductQuery-current_p_value.out"
_STATES: Final[Mapping[str, State]] = {
    "submitted": "submitted",
    "progress": "progress",
    "done": "ready",
    "failed": "failed",
}
_LARGEST: Final = 100


@dataclass(frozen=True)
class DummyBackEnd:
    """The back end whose files are in `folder`; None: a back end without files."""

    folder: Path | None

    def state(self) -> State | None:
        """Return the state of all jobs that wait for reports, or None if no file says."""
        return _STATES.get(self._text(_STATE_FILE))

    def current_p(self) -> float:
        """Return the number that the back end of `empty-async-return-progress` has come to; 0 if no file says."""
        try:
            return float(self._text(_P_FILE) or 0)
        except ValueError:
            return 0

    def _text(self, name: str) -> str:
        """Return the beginning of a file, without blanks around it; empty if there is no such file."""
        if self.folder is None:
            return ""
        try:
            with (self.folder / name).open(encoding="utf-8", errors="replace") as file:
                return file.read(_LARGEST).strip()
        except OSError:
            return ""
