"""Demonstrates the proxy: a real client queries a mock dispatcher twice, through the proxy.

`make demo` runs this in an environment with `oda_api` and matplotlib. It uses free ports of this machine, leaves
nothing running, and saves a picture of the mosaic to the file on its command line.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOK_QUERY: dict[str, Any] = {
    "instrument": "isgri",
    "product": "isgri_image",
    "product_type": "Real",
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "E1_keV": 20.0,
    "E2_keV": 40.0,
    "osa_version": "OSA10.2",
    "RA": 255.986542,
    "DEC": -37.844167,
    "detection_threshold": 5.0,
    "radius": 15.0,
}

SIGNIFICANCE = 4
"""The data unit of the mosaic with its significance, after the primary one, the index, intensity and variance."""


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Run an `oda-proxy` command until the block ends; yield the address it listens on."""
    command = [sys.executable, "-m", "oda_proxy.cli", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline().strip()
            if not line:
                raise SystemExit(process.stderr.read().strip())
            yield line.removeprefix("listening on ")
        finally:
            process.terminate()
            process.communicate()


class States(logging.Handler):
    """Collects the states of a job from the client's log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.began = time.monotonic()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store a change of state."""
        text = re.sub(r"\x1b\[\d*m", "", record.getMessage())  # the client colours its messages
        if changed := re.search(r"query status \S+ => (\S+)", text):
            self.seen.append(f"{changed[1]} after {time.monotonic() - self.began:.1f} s")


def get_image(client: Any) -> tuple[Any, float, list[str]]:
    """Query the image of the notebook; return the products, the time in s, and the states of the job."""
    states = States()
    log = logging.getLogger("oda_api")
    log.addHandler(states)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        data = client.get_product(**NOTEBOOK_QUERY)
    finally:
        log.removeHandler(states)
    return data, time.monotonic() - states.began, states.seen


def status(url: str) -> dict[str, Any]:
    """Return `/-/status` of a server."""
    with urllib.request.urlopen(f"{url}/-/status") as response:  # noqa: S310 - an address on this machine
        counts: dict[str, Any] = json.load(response)
    return counts


def draw(product: Any, file: str) -> None:
    """Draw the significance mosaic with sky coordinates."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    from astropy.io.fits import Header
    from astropy.wcs import WCS, FITSFixedWarning

    warnings.simplefilter("ignore", FITSFixedWarning)  # the header has keywords of 2003
    unit = product.data_unit[SIGNIFICANCE]
    figure = plt.figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot(projection=WCS(Header(unit.header)))
    image = axes.imshow(unit.data, origin="lower", vmin=-3, vmax=15, cmap="inferno")
    figure.colorbar(image, label="significance")
    axes.set(title="ISGRI mosaic, 20-40 keV", xlabel="right ascension", ylabel="declination")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run the demonstration."""
    picture = sys.argv[1]
    from oda_api.api import DispatcherAPI

    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="oda-proxy-demo-"))
        mock = stack.enter_context(running("mock"))
        proxy = stack.enter_context(running("serve", "--upstream", mock, "--cache-dir", cache))
        print(f"mock dispatcher on {mock}, proxy on {proxy}")
        client = DispatcherAPI(url=proxy)

        print(f"\nfirst query, {NOTEBOOK_QUERY['product']} as in the notebook:")
        first, took, states = get_image(client)
        for state in states:
            print(f"  {state}")
        print(f"  the products arrive after {took:.1f} s: {', '.join(first._n_list)}")  # noqa: SLF001 - as the notebook

        print("\nsecond query, the same:")
        second, took, states = get_image(client)
        hits = status(proxy)["run_analysis"]["hits"]
        assert hits == 1, "the second query was not a hit"
        print(f"  hit: the products arrive after {1000 * took:.0f} ms")

        maps = [data._p_list[0].data_unit[SIGNIFICANCE].data for data in (first, second)]  # noqa: SLF001 - as above
        same = maps[0].tobytes() == maps[1].tobytes()
        jobs = status(mock)["jobs"]
        assert same, "the second response differs from the first"
        assert jobs == 1, f"the dispatcher saw {jobs} jobs"
        print("\nthe data are identical, and the dispatcher saw one job")
        draw(second._p_list[0], picture)  # noqa: SLF001 - as above
        print(f"the mosaic is saved as {picture}")


if __name__ == "__main__":
    main()
