"""Rewriting of a capsule: new recordings are added to it, or recordings removed.

A capsule is replaced as a whole, under a lock: a process that is interrupted changes nothing, and two processes that
add recordings lose none.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.capsule import conversion, layout, readme
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.capsule.errors import CapsuleError, capsule_errors
from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.files.locking import lock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from oda_proxy.capsule.capsule import Capsule, DispatcherCapsule
    from oda_proxy.capsule.manifest import Manifest
    from oda_proxy.query.cache_key import Key

Answer = tuple[str, "Key"]
"""A recording or a failure: the URL of its dispatcher, and its key."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a capsule: it is not replaced meanwhile. Raises CapsuleError."""
    with capsule_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with capsule_errors(folder), lock(folder):
        yield


def replace(folder: Path, new: Path, *, command: tuple[str, ...], merges: bool) -> None:
    """Put the capsule `new` in place of that in `folder`, if there is one, or, with `merges`, add it to that.

    Of two answers with one key the new one is written. Files beside the capsule stay. Raises CapsuleError.
    """

    def write(staged: Path) -> None:
        if merges and (folder / layout.MANIFEST).is_file():
            added = open_capsule(new)
            _write(
                staged, (open_capsule(folder), added), command, exit_status=added.exit_status, skipped=_answers(added)
            )
        else:
            shutil.copytree(new, staged)

    with locked(folder):
        _rewrite(folder, write)


def remove(folder: Path, beginnings: Collection[str]) -> list[Key]:
    """Remove the recordings and failures whose keys begin so, and return their keys.

    Raises CapsuleError, also if a beginning is that of no key or of several; then nothing is removed.
    """
    with locked(folder):
        capsule = open_capsule(folder)
        answers = _answers(capsule)
        keys = sorted({key for _, key in answers})
        removed = [_one(folder, keys, beginning) for beginning in beginnings]
        skipped = {answer for answer in answers if answer[1] in removed}
        _rewrite(
            folder,
            lambda staged: _write(
                staged,
                (capsule,),
                capsule.command,
                exit_status=capsule.exit_status,
                skipped=set(),
                removed=skipped,
                rewritten=capsule.manifest,
            ),
        )
    return list(dict.fromkeys(removed))


def _one(folder: Path, keys: list[Key], beginning: str) -> Key:
    found = [key for key in keys if beginning and key.startswith(beginning.casefold())]
    if len(found) != 1:
        problem = f"{len(found)} keys begin" if found else "no recording has a key that begins"
        raise CapsuleError(folder, f"{problem} with {beginning!r}")
    return found[0]


def _answers(capsule: Capsule) -> set[Answer]:
    return {(one.url, key) for one in capsule.dispatchers for key in (*_recorded_keys(one), *one.failures)}


def _recorded_keys(dispatcher: DispatcherCapsule) -> Iterator[Key]:
    for fixture in dispatcher.fixtures:
        with capsule_errors(fixture.file("answer.json")):
            yield conversion.recorded_key(fixture)


def _write(
    folder: Path,
    capsules: tuple[Capsule, ...],
    command: tuple[str, ...],
    *,
    exit_status: int | None,
    skipped: Collection[Answer],
    removed: Collection[Answer] = (),
    rewritten: Manifest | None = None,
) -> None:
    """Write a capsule with the contents of several, without `removed`; `skipped` are left to the last capsule.

    `rewritten` is the manifest of a run of which the capsule remains.
    """
    # Existing recordings may be private.
    writer = CapsuleWriter(folder, command=command, include_private=True, rewritten=rewritten)
    for capsule in capsules:
        left_out = {*removed, *(skipped if capsule is not capsules[-1] else ())}
        for program, versions in capsule.versions.items():
            for version in versions if isinstance(versions, list) else ():
                writer.note_version(program, version)
        for dispatcher in capsule.dispatchers:
            _copy_dispatcher(dispatcher, writer, left_out)
        for exchange in capsule.exchanges():
            writer.save_exchange(exchange)
    writer.set_uses(capsules[-1].uses)  # those of the last run, which the manifest describes
    if rewritten is None or rewritten.ended is not None:  # the capsule of an interrupted run stays unfinished
        writer.finish(exit_status or 0)


def _copy_dispatcher(dispatcher: DispatcherCapsule, writer: CapsuleWriter, left_out: Collection[Answer]) -> None:
    target = writer.dispatcher(dispatcher.url)
    for address in dispatcher.addresses:
        target.add_address(address)
    for recording in dispatcher.recordings():
        if (dispatcher.url, recording.key) not in left_out:
            target.save_recording(recording)
    for key, failure in dispatcher.failures.items():
        if (dispatcher.url, key) not in left_out:
            target.save_failure(failure)
    descriptions = dispatcher.folder / layout.DESCRIPTIONS
    if descriptions.is_dir():
        shutil.copytree(descriptions, target.folder / descriptions.name, dirs_exist_ok=True)


def _rewrite(folder: Path, write: Callable[[Path], None]) -> None:
    """Put the capsule that `write` makes in place of that in a folder."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name[:40]}-", dir=folder.parent) as staging:
        new, old = Path(staging) / "new", Path(staging) / "old"
        write(new)
        if folder.exists():
            folder.rename(old)
            _move_other_files(old, new)
        new.rename(folder)


def _move_other_files(old: Path, new: Path) -> None:
    """Move files that are no part of the capsule, such as a README, to the new folder."""
    for other in old.iterdir():
        is_own = other.name in {layout.MANIFEST, layout.CRATE, *layout.FOLDERS}
        if not is_own and not (other.name == layout.README and readme.is_generated(other)):
            other.replace(new / other.name)
