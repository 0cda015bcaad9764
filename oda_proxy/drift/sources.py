"""The recordings of a capsule or of a folder of fixtures, by dispatcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from oda_proxy.capsule import capsule
from oda_proxy.capsule.conversion import ConversionError, recording_from_fixture
from oda_proxy.capsule.errors import NoCapsuleError
from oda_proxy.fixture.json_files import MANIFEST
from oda_proxy.fixture.reading import open_folder
from oda_proxy.query.cache_key import short_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oda_proxy.capsule.capsule import DispatcherCapsule
    from oda_proxy.files.trees import FileTree
    from oda_proxy.fixture.reading import Fixture
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording


@dataclass(frozen=True, slots=True)
class NamedRecording:
    """A recording with a name for people; `has_echo` if it holds the dispatcher's own echo of the query."""

    name: str
    recording: Recording
    has_echo: bool


@dataclass(frozen=True, slots=True)
class Unusable:
    """A fixture that is no recording of a result, and why."""

    name: str
    reason: str


def recordings_in(tree: FileTree) -> list[tuple[str, Iterable[NamedRecording | Unusable]]]:
    """Return the recordings of each dispatcher, with its URL, which is empty if it is unknown.

    Raises FixtureError if it is neither a capsule nor a folder of fixtures.
    """
    if capsule.is_capsule(tree):
        return [(one.url, _of_capsule(one)) for one in capsule.open_capsule(tree).dispatchers]
    if not tree.has(MANIFEST):
        raise NoCapsuleError(tree.path)
    by_source: dict[str, list[Fixture]] = {}
    for one in open_folder(tree).fixtures:
        source = str(one.origin.get("source", "")) if one.origin.get("kind") == "recorded" else ""
        by_source.setdefault(source if source.startswith(("http://", "https://")) else "", []).append(one)
    return [(url, _of_fixtures(several)) for url, several in by_source.items()]


def _of_capsule(dispatcher: DispatcherCapsule) -> Iterator[NamedRecording]:
    for recording in dispatcher.recordings():
        yield NamedRecording(_name(recording), recording, has_echo=True)


def _name(recording: Recording) -> str:
    """Name a recording by its product, source and energies, and by its key."""
    key = short_key(recording.key)
    return key if recording.query is None else f"{short_name(recording.query)} {key}"


def short_name(query: Query) -> str:
    """Name a query by its product, source and energies."""
    values = {name: " ".join(words) for name, words in query.parameters}
    energies = f"{values['E1_keV']}-{values['E2_keV']} keV" if {"E1_keV", "E2_keV"} <= values.keys() else ""
    return " ".join(filter(None, (query.instrument, query.product_type, values.get("src_name", ""), energies)))


def _of_fixtures(several: Iterable[Fixture]) -> Iterator[NamedRecording | Unusable]:
    for one in several:
        try:
            recording = recording_from_fixture(one, now=0.0)
            yield NamedRecording(one.path, recording, has_echo=one.answer().recorded is not None)
        except ConversionError as error:
            yield Unusable(one.path, str(error))
