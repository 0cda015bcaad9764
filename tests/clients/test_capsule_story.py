"""One story: an analysis that used all that ever made capsules fail replays in a fresh home with the network off."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.internet import Page, internet
from tests.support.namespaces import why_no_namespace
from tests.support.real_clients import environment
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TODAY = "https://www.astro.unige.ch/mmoda/dispatch-data"
SITES = b"""\
@prefix oda: <http://odahub.io/ontology#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
oda:unige-production oda:APIURL "https://www.astro.unige.ch/mmoda/dispatch-data" ; rdfs:label "production" .
"""

# An analysis with the client's own cache, wget, a TAP query by POST, and a page that is not there.
ANALYSIS = """
import hashlib, subprocess, urllib.error, urllib.request
from oda_api.api import DispatcherAPI

disp = DispatcherAPI(url="https://www.astro.unige.ch/mmoda/dispatch-data", instrument="mock", use_local_cache=True)
data = disp.get_product(instrument="spi_acs", product="spi_acs_lc", product_type="Real", time_bin=2,
                        T1="2003-03-15T23:27:40.0", T2="2003-03-15T23:57:12.0", RA=255.986542, DEC=-37.844167)
for product in data._p_list:
    arrays = [unit.data for unit in product.data_unit if unit.data is not None]
    print(product.name, [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays])
print(subprocess.run(["wget", "-q", "-O-", "https://example.org/page"], capture_output=True, check=True).stdout)
tap = urllib.request.Request("https://tap.example/tap/sync", b"REQUEST=doQuery&LANG=ADQL&QUERY=SELECT+1")
print(urllib.request.urlopen(tap).read())
try:
    urllib.request.urlopen("https://example.org/gone")
except urllib.error.HTTPError as error:
    print(error.code, error.read())
"""


def run(arguments: Sequence[str | Path], home: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder that is its home, without a configuration of whoever runs the tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ODA_", "DISP_"))}
    env |= {"HOME": str(home), "TMPDIR": str(home), "MPLBACKEND": "agg", **environ}
    return subprocess.run(
        list(map(str, arguments)), cwd=home, env=env, capture_output=True, text=True, timeout=PATIENCE * 2, check=False
    )


@pytest.mark.real
def test_an_analysis_replays_in_a_fresh_home_with_the_network_off(tmp_path: Path) -> None:
    if shutil.which("wget") is None:
        assert not os.environ.get("CI"), "CI must have wget"
        pytest.skip("there is no wget")
    if reason := why_no_namespace():
        pytest.skip(f"no network namespaces here: {reason}")
    python = environment("oda_api-1.3.5")
    author, reader = tmp_path / "author", tmp_path / "reader"
    author.mkdir()
    reader.mkdir()
    command: list[str | Path] = [python, "-c", ANALYSIS]
    oda_proxy: list[str | Path] = [sys.executable, "-m", "oda_proxy.cli"]
    with (
        running(tmp_path / "log", "mock", "--time-scale", "0", "--port", "0") as mock,
        internet(
            {
                "https://odahub.io/oda-sites.ttl": Page(SITES, "text/turtle"),
                "https://example.org/page": Page(b"a page"),
                "https://example.org/gone": Page(b"no such page", status=404),
                "https://tap.example/tap/sync": Page(b"<VOTABLE/>", "application/x-votable+xml"),
                TODAY: mock.url,
            }
        ) as net,
    ):
        # A private authority is trusted by the environment, and the client's cache is warm.
        (author / ".wgetrc").write_text(f"ca_certificate = {net.bundle}\n")
        alone = run(command, author, net.environment)
        assert any((author / ".cache" / "oda-api").iterdir()), alone.stderr
        record = [*oda_proxy, "record", "-o", "capsule", "--keep-post", "tap.example", "--", *command]
        first = run(record, author, net.environment)
    shutil.move(author / "capsule", reader / "capsule")
    shutil.rmtree(author)

    again = run(["unshare", "--map-root-user", "--net", *oda_proxy, "replay", "capsule", "--", *command], reader, {})

    assert alone.returncode == first.returncode == 0, alone.stderr + first.stderr
    assert "b'<VOTABLE/>'" in first.stdout
    assert "404 b'no such page'" in first.stdout
    assert "to run it again, anywhere: oda-proxy replay capsule" in first.stderr
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert first.stdout == alone.stdout
    assert "nothing missed" in again.stderr
