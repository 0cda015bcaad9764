"""The README.md of a capsule, for people."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.query.message_text import shorten
from oda_proxy.recordings.redaction import REMOVED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from oda_proxy.query.query import Query

_MARK: Final = "<!-- written by oda-proxy; without this line it stays as it is -->"
_FOLDER: Final = "path/to/this/folder"
_MAX_ROWS: Final = 1000
_UNITS: Final = ("B", "kB", "MB", "GB")
_KILO: Final = 1000


def is_generated(file: Path) -> bool:
    """Return whether a README was written by this module, and may be replaced."""
    try:
        with file.open("rb") as stream:
            return stream.readline(200).strip() == _MARK.encode()
    except OSError:
        return False


def describe(query: Query | None) -> str:
    """Describe a query in one line."""
    if query is None:
        return "an unknown query"
    parameters = ", ".join(f"{shorten(name)}={shorten(' '.join(values))}" for name, values in query.parameters)
    return f"{shorten(query.instrument)} {shorten(query.product_type)} ({parameters})"


def render(manifest: Mapping[str, Any], contents: Mapping[str, str], missing: Sequence[str] = ()) -> str:
    """Return the README of a capsule: `manifest` is the content of capsule.json, `contents` has a line per entry.

    `missing` are lines about what is not in the capsule.
    """
    recorder = f"oda-proxy {manifest['versions'].get('oda_proxy', '')}"
    lines = [
        _MARK,
        "# A recorded run",
        "",
        f"This folder is a capsule: the requests of one run of a program, and their answers, recorded by {recorder}.",
        "",
        f"- Run: {manifest['created']} to {manifest['ended']}, exit status {manifest['exit_status']}",
        *(f"- Dispatcher: {one['url']}" for one in manifest["dispatchers"]),
        *_command(manifest["command"]),
        "",
        "To run it again with the same answers, without a network:",
        "",
        "    pip install oda-proxy",
        f"    oda-proxy replay {_FOLDER} -- {_repeatable(manifest['command'])}",
        "",
        "## Contents",
        "",
        "| what | where | from | size |",
        "|---|---|---|---|",
        *_rows(manifest, contents),
        *_missing(missing),
        "",
        "`capsule.json` has the digests of all files, `ro-crate-metadata.json` describes them for repositories.",
        *_versions(manifest),
    ]
    return "\n".join(lines) + "\n"


def _repeatable(command: list[str]) -> str:
    """Return a command, or a placeholder where words of it were removed."""
    return shlex.join(command) if command and not any(REMOVED in word for word in command) else "COMMAND"


def _command(command: list[str]) -> list[str]:
    return [f"- Command: `{_cell(shlex.join(command))}`"] if command else []


def _rows(manifest: Mapping[str, Any], contents: Mapping[str, str]) -> list[str]:
    urls = {one["name"]: one["url"] for one in manifest["dispatchers"]}
    rows = []
    for entry, what in sorted(contents.items()):
        files = {
            path: file for path, file in manifest["files"].items() if path == entry or path.startswith(f"{entry}/")
        }
        if body := manifest["files"].get(f"{entry.removesuffix('.json')}.body"):
            files["body"] = body
        if not files:
            continue
        names = entry.split("/")
        source = urls.get(names[1], "") if names[0] == "dispatchers" else "another server"
        size = _size(sum(file["size"] for file in files.values()))
        rows.append(f"| {_cell(what)} | `{entry}` | {_cell(source)} | {size} |")
    if len(rows) > _MAX_ROWS:
        rows[_MAX_ROWS:] = [f"| and {len(rows) - _MAX_ROWS} more | | | |"]
    return rows


def _missing(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    shown = [f"- {_cell(line)}" for line in lines[:_MAX_ROWS]]
    more = [f"- and {len(lines) - _MAX_ROWS} more"] if len(lines) > _MAX_ROWS else []
    return ["", "## Not in this capsule", "", *shown, *more]


def _versions(manifest: Mapping[str, Any]) -> list[str]:
    programs = {"Python": manifest["versions"].get("interpreters", []), **manifest["versions"].get("packages", {})}
    lines = [f"| {_cell(name)} | {_cell(', '.join(versions))} |" for name, versions in programs.items() if versions]
    if not lines:
        return []
    return ["", "## Software", "", "What the run imported:", "", "| package | version |", "|---|---|", *lines]


def _cell(text: str) -> str:
    """Return a text as the cell of a table."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")


def _size(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < _KILO:
            return f"{size:.3g} {unit}"
        size /= _KILO
    return f"{size:.3g} {_UNITS[-1]}"
