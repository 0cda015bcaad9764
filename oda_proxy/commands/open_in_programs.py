"""The command `open`: has programs of the user load products, by SAMP or as arguments of a FITS viewer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from oda_proxy.capsule.conversion import wire_products
from oda_proxy.commands import samp_hub
from oda_proxy.commands.open_store import open_recording, open_store
from oda_proxy.commands.opened_products import Products, remote_products
from oda_proxy.commands.output import print_lines, warn
from oda_proxy.commands.proxy_api import Server
from oda_proxy.drawing.downloads import fits_file
from oda_proxy.drawing.file_names import safe_name
from oda_proxy.drawing.product_list import NoProductError
from oda_proxy.drawing.samp_messages import messages_for
from oda_proxy.drawing.summaries import summaries_of
from oda_proxy.errors import CodecError, OdaProxyError, UsageError
from oda_proxy.files.temporary import readable_folder
from oda_proxy.query.cache_key import short_key
from oda_proxy.store.selection import find_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from oda_proxy.commands.opened_products import Summary
    from oda_proxy.commands.samp_hub import Hub
    from oda_proxy.config.settings import StoreOptions

_SOON = 2.0
"""Seconds within which a viewer that cannot open a file has ended."""


class NoProgramError(OdaProxyError):
    """No program can load the products."""


def open_in_programs(
    key: str,
    *,
    numbers: Sequence[int] | None,
    is_all: bool,
    to: str | None,
    viewer: str | None,
    source: StoreOptions | Server,
) -> int:
    """Have programs load products of a recording; the exit status is 1 if one of them fails.

    `source` has the recording: a store on this machine, or a running proxy.

    Without a SAMP hub, or if none of its programs loads such files, `viewer` is started with the first of the files.
    """
    if is_all and numbers:
        raise UsageError("--all and --product exclude each other")
    products = remote_products(source, key) if isinstance(source, Server) else _stored_products(source, key)
    chosen = _chosen(products.summaries, numbers, is_all=is_all)
    folder = readable_folder()
    files = {summary["number"]: _write(folder, products, summary) for summary in chosen}
    wrote = "1 FITS file" if len(files) == 1 else f"{len(files)} FITS files"
    print_lines([f"wrote {wrote} to {folder}, which may be removed when no program needs them"])
    with samp_hub.connected() as hub:
        if hub is not None:
            problem, has_failed = _send(hub, short_key(products.key), chosen, files, to)
            if not problem:
                return 1 if has_failed else 0
        else:
            problem = "no SAMP hub runs"
    if to is not None:
        raise NoProgramError(f"{problem}: start {to} first, or leave out --to")
    _start_viewer(viewer, files[chosen[0]["number"]], problem)
    return 0


def _stored_products(options: StoreOptions, key: str) -> Products:
    """Return the products of a recording in a store."""
    with open_store(options) as store:
        (entry,) = find_entries(store, [key])
        with open_recording(store, entry.key) as recording:
            products = wire_products(recording)

    def file_of(number: int) -> bytes:
        try:
            return fits_file(products, number)
        except CodecError as error:
            raise OdaProxyError(f"product {number} cannot be written as FITS: {error}") from error

    return Products(entry.key, summaries_of(products), file_of)


def _chosen(summaries: Sequence[Summary], numbers: Sequence[int] | None, *, is_all: bool) -> list[Summary]:
    """Return the products to send. Raises NoProductError if one does not exist, has no FITS file, or there is none."""
    possible = {summary["number"]: summary for summary in summaries if summary["has_fits"]}
    if not possible:
        raise NoProductError("the recording has no product with a FITS file; see oda-proxy show")
    if is_all:
        return list(possible.values())
    if numbers:
        for number in numbers:
            if number not in possible:
                which = ", ".join(map(str, list(possible)[:20]))
                raise NoProductError(
                    f"product {number} does not exist, or has no FITS file; those with one are {which}"
                )
        return [possible[number] for number in dict.fromkeys(numbers)]
    images = [summary for summary in possible.values() if summary["kind"] == "image"][:1]
    catalogs = [summary for summary in possible.values() if summary["kind"] == "catalogue"]
    return [*images, *catalogs] if images else list(possible.values())[:1]


def _write(folder: Path, products: Products, summary: Summary) -> Path:
    file = folder / f"{safe_name(Path(summary['file']).stem)}.fits"
    file.write_bytes(products.file_of(summary["number"]))
    return file


def _send(hub: Hub, key: str, chosen: Sequence[Summary], files: Mapping[int, Path], to: str | None) -> tuple[str, bool]:
    """Send products to programs; return why none was sent, and whether a program has failed."""
    programs = hub.programs()
    wanted = set(programs)
    if to is not None:
        wanted = {one for one, name in programs.items() if name.casefold() == to.casefold()}
        if not wanted:
            raise NoProgramError(
                f"no program {to!r} is connected to the SAMP hub; there are {_listed(programs.values())}"
            )
    is_sent = has_failed = False
    for summary in chosen:
        file = files[summary["number"]]
        for message in messages_for(summary, file.as_uri(), f"oda-proxy-{key}-{summary['number']}"):
            receivers = [one for one in hub.subscribers(message.mtype) if one in wanted]
            for receiver in receivers:
                name = programs[receiver]
                try:
                    hub.send(receiver, message)
                except samp_hub.SampError as error:
                    has_failed = True
                    warn(f"{name} has not loaded {file.name}: {error}")
                else:
                    print_lines([f"{name} has loaded {file.name}"])
            if receivers:
                is_sent = True
                break
    problem = f"no program of the SAMP hub loads such files; there are {_listed(programs.values())}"
    return "" if is_sent else problem, has_failed


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _start_viewer(viewer: str | None, file: Path, problem: str) -> None:
    """Start the viewer for a file. Raises NoProgramError if there is none, or it fails at once."""
    program = viewer or ("open" if sys.platform == "darwin" else "xdg-open")
    path = shutil.which(program)
    if path is None:
        raise NoProgramError(
            f"{problem}, and there is no program {program}: start DS9, TOPCAT or Aladin, or name one with --viewer"
        )
    try:
        process = subprocess.Popen([path, str(file)], start_new_session=True)  # noqa: S603 - the program of the user
    except OSError as error:
        raise NoProgramError(f"{problem}, and {program} cannot be started: {error.strerror or error}") from error
    # xdg-open and open find the program, and end; a viewer runs on.
    with suppress(subprocess.TimeoutExpired):
        if status := process.wait(None if viewer is None else _SOON):
            raise NoProgramError(f"{problem}, and {program} fails with status {status}: name another with --viewer")
    print_lines([f"{problem}: opened {file.name} with {program}"])
