"""The tasks of a drawing process: what is to be made of a recording."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(StrEnum):
    """What a task makes."""

    PICTURE = "picture"
    FITS = "fits"
    HEADER = "header"
    SUMMARIES = "summaries"
    ARCHIVE = "archive"
    FIXTURE = "fixture"


CONTENT_TYPES = {
    Kind.PICTURE: "image/png",
    Kind.FITS: "application/fits",
    Kind.HEADER: "text/plain",
    Kind.SUMMARIES: "application/json",
    Kind.ARCHIVE: "application/zip",
    Kind.FIXTURE: "application/zip",
}


@dataclass(frozen=True)
class Task:
    """A task: what to make of which product, and of which of its data units; `source` is the dispatcher's address."""

    kind: Kind
    number: int = 0
    unit: int = 0
    source: str = ""

    @property
    def name(self) -> str:
        """A unique name among the tasks on one recording."""
        return f"{self.kind}-{self.number}-{self.unit}"

    def as_json(self) -> dict[str, Any]:
        """Return the task as JSON."""
        return asdict(self)


def read_task(members: Mapping[str, Any]) -> Task:
    """Read a task from JSON, as `Task.as_json` returns it."""
    return Task(Kind(members["kind"]), int(members["number"]), int(members["unit"]), str(members["source"]))
