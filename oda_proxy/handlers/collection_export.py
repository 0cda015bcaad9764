"""Export of a collection as a capsule, as if its requests had been recorded."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from oda_proxy.capsule import layout
from oda_proxy.capsule.errors import UnwritableCapsuleError, capsule_errors
from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.codec import json_text
from oda_proxy.errors import OdaProxyError, StoreUnusableError, UnwritableFixtureError
from oda_proxy.files import atomic
from oda_proxy.query.cache_key import short_key
from oda_proxy.recordings import failures
from oda_proxy.store.collections import ADDRESS, CLIENT, FAILURE, LEFT_OUT, RECORDING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.capsule.writer import DispatcherWriter
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Store
    from oda_proxy.store.collections import Collection, Collections, Member


@dataclass(slots=True)
class ExportedCollection:
    """What was written of a collection, and what was not."""

    recordings: int = 0
    failures: int = 0
    descriptions: int = 0
    private: int = 0
    """Recordings and failures that were left out because they were requested with a token."""
    missing: dict[Key, str] = field(default_factory=dict)
    """Why a member was not written, by its key."""

    def missing_lines(self) -> Sequence[str]:
        """Return a line about each member that was not written, and one about the private ones."""
        lines = [f"{short_key(key)} is not in the capsule: {reason}" for key, reason in self.missing.items()]
        if self.private:
            answers = "1 answer that was" if self.private == 1 else f"{self.private} answers that were"
            lines.append(f"left out: {answers} requested with a token")
        return lines


def export_collection(
    index: Collections,
    collection: Collection,
    store: Store,
    folder: Path,
    *,
    url: str,
    store_folder: Path | None,
    include_private: bool,
) -> ExportedCollection:
    """Write a collection of the dispatcher at `url` as a capsule into a new folder. Blocks.

    Descriptions of instruments, which say what their parameters mean, are read from `store_folder`. Raises
    NotACapsuleError, CapsuleError and StoreUnusableError; a recording that cannot be read is left out.
    """
    moment = collection.created
    writer = CapsuleWriter(folder, include_private=include_private, clock=lambda: moment)
    dispatcher = writer.dispatcher(url)
    for address in index.facts(collection, ADDRESS):
        dispatcher.add_address(address)
    for version in index.facts(collection, CLIENT):
        writer.note_version("oda_api", version)
    exported, instruments = ExportedCollection(), set[str]()
    for member in index.members(collection):
        moment = member.first
        try:
            if instrument := _save(member, store, dispatcher, exported):
                instruments.add(instrument)
        except (StoreUnusableError, UnwritableCapsuleError, UnwritableFixtureError):
            raise  # part of a collection is not to be taken for all of it
        except OdaProxyError as error:
            exported.missing[member.key] = str(error)
    exported.descriptions = _write_descriptions(
        dispatcher, index.descriptions(collection), sorted(instruments), store_folder
    )
    exported.private = writer.private_left_out
    for line in exported.missing_lines():
        writer.note_missing(line)
    moment = collection.changed
    writer.finish(0)
    return exported


def _save(member: Member, store: Store, dispatcher: DispatcherWriter, exported: ExportedCollection) -> str:
    """Save a member, and return the name of its instrument, "" where it is unknown. Raises OdaProxyError."""
    query, is_saved = None, False
    if member.kind == RECORDING:
        if (recording := _read(member, store)) is None:
            exported.missing[member.key] = "it was removed from the store"
            return ""
        with closing(recording.head):
            is_saved, query = dispatcher.save_recording(recording), recording.query
        exported.recordings += is_saved
    elif member.kind == FAILURE and member.content:
        failure = failures.parse(member.content)
        is_saved, query = dispatcher.save_failure(failure), failure.query
        exported.failures += is_saved
    elif member.kind == LEFT_OUT:
        exported.missing[member.key] = f"its answer was not stored ({(member.content or b'').decode()})"
    if is_saved:
        dispatcher.count_use(member.key, member.uses)
    return query.instrument if query else ""


def _read(member: Member, store: Store) -> Recording | None:
    """Return the recording of a member, or the version of it that was noted; None where that was removed."""
    if member.version is None:
        return store.peek(member.key)
    found = (one for one in store.versions(member.key) if one.valid_from == member.version)
    if (entry := next(found, None)) is None or (recording := store.get_version(entry)) is None:
        return None
    # An equal answer may have been recorded later: a replay at the same date needs the time of the first.
    return replace_fields(recording, stored_at=min(member.version, recording.stored_at))


def _write_descriptions(
    dispatcher: DispatcherWriter,
    descriptions: Sequence[tuple[str, bytes]],
    instruments: Sequence[str],
    store_folder: Path | None,
) -> int:
    """Write the descriptions of a collection, and those of its instruments; return the number of the former."""
    for name, content in descriptions:
        _write_description(dispatcher, name, content)
    for instrument in instruments:
        name = f"{quote(instrument, safe='')}.json"
        if store_folder and (file := store_folder / layout.DESCRIPTIONS / name).is_file():
            with capsule_errors(file):
                _write_description(dispatcher, name, file.read_bytes())
    return len(descriptions)


def _write_description(dispatcher: DispatcherWriter, name: str, content: bytes) -> None:
    file = dispatcher.folder / layout.DESCRIPTIONS / name
    with capsule_errors(file):
        json_text.loads(content)
        atomic.write(file, content)


def collection_json(collection: Collection) -> dict[str, Any]:
    """Return a collection as the members of a JSON object."""
    return {
        "name": collection.name,
        "owner": collection.owner or None,
        "created": collection.created,
        "changed": collection.changed,
        "recordings": collection.recordings,
        "failures": collection.failures,
        "size": collection.size,
    }


def member_json(member: Member) -> dict[str, Any]:
    """Return a member of a collection as the members of a JSON object."""
    version = {} if member.version is None else {"valid_from": member.version}
    return {"key": member.key, "kind": member.kind, "uses": member.uses, "first": member.first, **version}
