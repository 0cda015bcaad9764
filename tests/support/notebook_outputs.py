"""The outputs of the notebook TestAPI, cell by cell, and how other clients and dispatchers change them.

`notebook_printed.txt` has the outputs in the notebook, each under the name of its cell in
`tests/clients/scripts/notebook.py`. The notebook was run in May 2019, with the client that became oda_api 1.0,
numpy 1.16 and astropy 3.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSIONS = ("1.0", "1.1.0", "1.2.1", "1.3.5")
LATER = VERSIONS[1:]

_FILE = Path(__file__).with_name("notebook_printed.txt")
PRINTED: dict[str, str] = {
    name: text.rstrip("\n")
    for name, _, text in (section.partition("\n") for section in _FILE.read_text().split("#### ")[1:])
}
"""The output of each cell."""

QUERIES = ("image", "selected", "lc", "polar", "acs", "spectrum", "jemx_image", "jemx_lc", "jemx_spectrum")
"""The cells that query products: they print the client's report."""

_STRUCTURE = frozenset({"SIMPLE", "BITPIX", "NAXIS", "EXTEND"})
REQUEST_CARDS = frozenset({"api", "dry_run", "job_id", "off_line", "query_status", "session_id", "url", "verbose"})
"""Cards of a primary header in 2019 that belong to the request and not to its query."""


@dataclass(frozen=True)
class Run:
    """A run of all cells: a release of the client, a generation of the dispatcher, and what stands between them."""

    version: str
    generation: str
    route: str

    def __str__(self) -> str:
        return f"{self.version}-{self.generation}-{self.route}"


RUNS = (
    *(Run(version, "today", route) for version in VERSIONS for route in ("mock", "proxy")),
    *(Run("1.0", "2019", route) for route in ("mock", "proxy")),
    *(Run(version, "2019", "mock") for version in LATER),
)


@dataclass(frozen=True)
class Difference:
    """A change of the output with some clients or dispatchers, and the reason."""

    cells: str
    versions: tuple[str, ...]
    generations: tuple[str, ...]
    reason: str
    change: Callable[[str, Run], str]


def _without_instrument(text: str, _: Run) -> str:
    return re.sub(r"\n-{14}\ninstrumet: \w+\n", "", text)


def _done(_: str, run: Run) -> str:
    return "query COMPLETED SUCCESSFULLY (state done)"


def _renamed(stems: tuple[tuple[str, str], ...]) -> Callable[[str, Run], str]:
    """Return the list of names: a stem, the number, and the source and product in the meta data."""

    def change(_: str, run: Run) -> str:
        names = [f"{stem}_{number}" + (f"_{suffix}" if suffix else "") for number, (stem, suffix) in enumerate(stems)]
        if run.version == "1.1.0":  # attributes have letters instead, also here
            names = [name.replace(" ", "") for name in names]
        else:
            names = [re.sub(r"\W", "", name.replace("-", "m").replace("+", "p")) for name in names]
        return "\n".join(f"ID={number} prod_name={name}" for number, name in enumerate(names))

    return change


def _with_version(text: str, run: Run) -> str:
    """Add the client's version to the cards, or to the warnings about long keywords; remove what it does not send."""
    if not text.startswith("{"):
        lines = text.splitlines()
        return "\n".join(sorted([*lines, lines[0].replace("detection_threshold", "oda_api_version")]))
    header = ast.literal_eval(text)
    removed = set() if run.version == "1.1.0" else {"dry_run", "verbose"}
    header = {name: value for name, value in header.items() if name not in removed} | {"oda_api_version": run.version}
    arguments = {name: value for name, value in header.items() if name not in {*_STRUCTURE, "url"}}
    return str({**header, "url": f"http://www.astro.unige.ch/cdci/astrooda_?{urlencode(arguments)}"})


def _without_request_cards(text: str, _: Run) -> str:
    return str({name: value for name, value in ast.literal_eval(text).items() if name not in REQUEST_CARDS})


def _with_six_units(text: str, _: Run) -> str:
    last = "data uniti 1 ,name: ISGR-MOSA-IMA"
    maps = (f"data uniti {number} ,name: ISGR-MOSA-IMA" for number in range(2, 6))
    text = text.replace("number of data units 2", "number of data units 6")
    return text.replace(last, "\n".join(("data uniti 1 ,name: GROUPING", *maps)))


def _with_own_checksums(text: str, _: Run) -> str:
    return str({**ast.literal_eval(text), "CHECKSUM": "ZPO4bPO3ZPO3bPO3", "DATASUM": "2030414289"})


def _sources() -> tuple[tuple[str, str], ...]:
    return tuple(("isgri_lc", line.partition(" ")[2]) for line in PRINTED["lc_sources"].splitlines())


_ALL = ("2019", "today")
_NAMES = "names have product and source, nameless products are named after the query; meta data follow"
DIFFERENCES = (
    Difference(
        "selected_data", VERSIONS, _ALL, "numpy 2 prints the shape of an abridged array",
        lambda text, _: text.replace("dtype=", "shape=(455, 455), dtype="),
    ),
    Difference(
        "image_table", VERSIONS, _ALL, "astropy 8 puts a table into a div",
        lambda text, _: f"<div>{text}</div>",
    ),
    Difference(
        "*", ("1.0",), _ALL, "oda_api 1.0 as published begins with a dash",
        lambda text, _: re.sub("(?m)^waiting for", "- waiting for", text),
    ),
    Difference(
        "description_*", LATER, _ALL, "the client looks for `instrument`; dispatchers write `instrumet`",
        _without_instrument,
    ),
    Difference(
        "description_isgri_image", LATER[1:], _ALL, "the client prints one blank less",
        lambda text, _: text.replace("for  product", "for product"),
    ),
    Difference("image_show", LATER, _ALL, _NAMES, _renamed((("mosaic_image", "mosaic"), ("dispatcher_catalog", "")))),
    Difference("lc_show", LATER, _ALL, _NAMES, _renamed(_sources())),
    Difference("polar_show", LATER, _ALL, _NAMES, _renamed((("polar_lc", "lc"), ("polar_lc", "")))),
    Difference("acs_show", LATER, _ALL, _NAMES, _renamed((("spi_acs_lc", "query"),))),
    *(Difference(cell, LATER, _ALL, "the client words its report differently", _done) for cell in QUERIES),
    *(
        Difference(cell, LATER, ("2019",), "the client sends its version, later no dry_run or verbose", _with_version)
        for cell in ("lc_header", "selected_hdus")
    ),
    Difference(
        "lc_header", VERSIONS, ("today",), "headers have no cards of the request", _without_request_cards
    ),
    Difference(
        "selected_hdus", VERSIONS, ("today",), "six HDUs, of which the primary one has no cards of the query",
        lambda *_: "6",
    ),
    Difference(
        "selected_show", VERSIONS, ("today",), "six HDUs", _with_six_units,
    ),
    Difference(
        "selected_data", VERSIONS, ("today",), "maps are NaN outside the field of view",
        lambda text, _: text.replace("0.", "nan").replace("]], ", "]],\n      "),
    ),
    Difference(
        "selected_header", VERSIONS, ("today",), "the map of significance has its own checksums",
        _with_own_checksums,
    ),
    Difference(
        "spectrum_last", VERSIONS, ("today",), "the plugin renames the units of responses",
        lambda text, _: text.replace("ISGR-RMF.-RSP", "SPECRESP MATRIX").replace("ISGR-EBDS-MOD", "EBOUNDS"),
    ),
)  # fmt: skip
"""All differences. Other outputs are equal to those in the notebook."""


def expected(cell: str, run: Run) -> str:
    """Return the expected output of a cell in a run."""
    text = PRINTED[cell]
    for difference in DIFFERENCES:
        applies = run.version in difference.versions and run.generation in difference.generations
        if applies and fnmatch(cell, difference.cells):
            text = difference.change(text, run)
    return text


def shown(cell: str, outcome: Mapping[str, Any], run: Run) -> str:
    """Return the output of a cell as in a notebook: the printed text, or its value."""
    if cell == "selected_hdus":
        warnings = [f"WARNING: VerifyWarning: {text} [astropy.io.fits.card]" for text in outcome["warned"]]
        return "\n".join(warnings) or repr(outcome["value"])
    printed = on_a_terminal(outcome["output"]).rstrip("\n")
    if run.version in LATER and cell in QUERIES:
        return "\n".join(line for line in printed.splitlines() if line.startswith("query COMPLETED"))
    if run.version in LATER and cell.endswith("_show"):
        lines = [line.partition("  meta_data:")[0] for line in printed.splitlines()]
        return "\n".join(line for line in lines if line) if cell != "selected_show" else printed
    if printed:
        return printed
    value = outcome["value"]
    return value if isinstance(value, str) and not PRINTED[cell].startswith("'") else repr(value)


def on_a_terminal(text: str) -> str:
    """Return the final text on a terminal, without colours; a carriage return overwrites the line."""
    lines = []
    for line in re.sub(r"\x1b\[\d+m", "", text).split("\n"):
        seen = ""
        for piece in line.split("\r"):
            seen = piece + seen[len(piece) :]
        lines.append(seen)
    return "\n".join(lines)


def comparable(cell: str, text: str, run: Run) -> Any:
    """Parse an output, without what differs between runs: addresses, sessions, jobs, counts of polls."""
    if text.startswith(("{", "(", "[[", "'")) or (text.startswith("[") and cell == "selected_shape"):
        value = ast.literal_eval(text)
        return _anonymous(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
    if cell in QUERIES and run.route == "proxy":  # recordings are served at once
        text = re.sub("the job has been submitted on the remote server\n.*\n", "\n", text)
    text = re.sub("( object)? at 0x[0-9a-f]+", "", re.sub(r'id="table\d+"', 'id="table"', text))
    text = re.sub(r"(?m)^session_id [0-9A-Z]{16}$", "session_id", text)
    text = re.sub(r"(?m)^(-? ?waiting for remote response, please wait run_analysis) http\S+$", r"\1", text)
    # The end of a longer line, of an earlier poll, is visible after this one.
    return re.sub(r"(?m)^ [-|/\\](.* status=done - job_id=)-?[0-9a-f]+ .*$", r"\1", text)


def _anonymous(header: dict[str, Any]) -> dict[str, Any]:
    """Check the cards of the request in a header, and remove them."""
    if "url" not in header:
        return header
    arguments = dict(parse_qsl(urlsplit(header["url"]).query))
    assert arguments == {name: value for name, value in header.items() if name not in {*_STRUCTURE, "url"}}
    assert re.fullmatch("[0-9A-Z]{16}", header["session_id"])
    assert re.fullmatch("-?[0-9]+", header["job_id"])
    assert header["query_status"] in {"submitted", "progress"}  # the state of the job in the last request
    return {
        name: value for name, value in header.items() if name not in {"url", "session_id", "job_id", "query_status"}
    }
