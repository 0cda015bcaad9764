"""Run notebooks over the mock, and list the cells that fail.

    python -m tests.soak.notebooks NOTEBOOK... --python PYTHON [--option=...]

The notebooks are those of another project, which are never part of this one. Addresses of public dispatchers in them
are replaced by that of a mock that makes up data for every valid query. Other services have stand-ins: SIMBAD finds the
Crab under every name, HEASARC finds twelve science windows, and the token that clients find, or ask for, can be
refreshed. PYTHON has `oda_api`, nbclient and ipykernel.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mock_server.tokens import make_token
from tests.support.paths import NETWORK_GUARD
from tests.support.servers import running

PUBLIC = re.compile(r"https?://(?:www\.)?(?:astro\.unige\.ch|dispatcher-staging\.obsuks1\.unige\.ch)[A-Za-z0-9/._-]*")
"""Addresses that are replaced."""
TIMEOUT = 60
"""Seconds for one cell."""
MOCK = ("mock", "--synthetic", "--public-instruments", "--dummy-instruments", "--time-scale", "0", "--port", "0")
STAND_INS = """
import os
import oda_api.api
get_ipython().kernel.getpass = lambda *arguments, **options: os.environ["ODA_TOKEN"]
_initialise = oda_api.api.DispatcherAPI.__init__
def _with_address(self, *arguments, **options):
    if not arguments and not {"url", "host"} & set(options):
        options["url"] = URL
    _initialise(self, *arguments, **options)
oda_api.api.DispatcherAPI.__init__ = _with_address
try:
    import astroquery.heasarc, astroquery.simbad
    from astropy.table import Table
    _place = {"RA": ["05 34 31.94"], "DEC": ["+22 00 52.2"], "ra": ["05 34 31.94"], "dec": ["+22 00 52.2"]}
    _windows = {"SCW_ID": [f"0665{n:04}0010" for n in range(12)], "SCW_VER": ["001"] * 12}
    for one in (astroquery.simbad.Simbad, type(astroquery.simbad.Simbad)):
        one.query_object = lambda *arguments, **options: Table(_place)
    for one in (astroquery.heasarc.Heasarc, type(astroquery.heasarc.Heasarc)):
        one.query_region = lambda *arguments, **options: Table(_windows)
except ImportError:
    pass
"""
RUN = """
import json, sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.insert(0, nbformat.v4.new_code_cell(sys.argv[3]))
NotebookClient(notebook, timeout=int(sys.argv[2]), allow_errors=True, kernel_name="python3").execute()
cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
errors = [[number, output.ename, output.evalue] for number, cell in enumerate(cells)
          for output in cell.outputs if output.output_type == "error"]
print(json.dumps({"cells": len(cells) - 1, "errors": errors}))
"""


def token() -> str:
    """Return a token that the mock accepts, as it does with any signature."""
    claims = {"sub": "user@example.org", "email": "user@example.org", "name": "user", "tem": 0}
    roles = "general, unige-hpc-full, refresh-tokens, job manager"
    return make_token({**claims, "roles": roles, "exp": time.time() + 24 * 3600}, "")


def run(notebook: Path, python: Path, url: str, folder: Path) -> str:
    """Run a notebook with the addresses replaced; return a line for each cell that failed, after one for the whole."""
    copy = folder / notebook.name
    copy.write_text(PUBLIC.sub(url, notebook.read_text("utf-8")), "utf-8")
    env = {**os.environ, "PYTHONPATH": str(NETWORK_GUARD), "HOME": str(folder), "MPLBACKEND": "Agg"}
    env["ODA_TOKEN"] = token()  # where clients look first
    env["JUPYTER_PATH"] = str(python.parent.parent / "share" / "jupyter")
    command = [str(python), "-c", RUN, str(copy), str(TIMEOUT), f"URL = {url!r}\n{STAND_INS}"]
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if result.returncode:
        return f"{notebook.name}: did not run: {result.stderr.strip().splitlines()[-1][:300]}"
    found = json.loads(result.stdout.splitlines()[-1])
    failed = {number for number, _, _ in found["errors"]}
    lines = [f"{notebook.name}: {found['cells'] - len(failed)} of {found['cells']} cells run"]
    lines += [f"    cell {number}: {kind}: {' '.join(text.split())[:200]}" for number, kind, text in found["errors"]]
    return "\n".join(lines)


def main() -> int:
    """Run all notebooks over one mock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--option", action="append", default=[], help="an option for `oda-proxy mock`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with running(folder / "mock.log", *MOCK, *options.option) as server:
            for notebook in options.notebooks:
                print(run(notebook, options.python.absolute(), server.url, folder), flush=True)  # noqa: T201 - its result
    return 0


if __name__ == "__main__":
    sys.exit(main())
