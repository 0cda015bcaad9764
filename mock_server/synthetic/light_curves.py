"""Light curves of JEM-X, SPI-ACS and POLAR, of constant sources and, for POLAR, a burst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.synthetic.random_numbers import random_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

JEMX_COLUMNS: Final = np.dtype([("TIME", ">f8"), ("RATE", ">f4"), ("ERROR", ">f4"), ("FRACEXP", ">f4")])
POLAR_COLUMNS: Final = np.dtype([("rate", "<f8"), ("rate_err", "<f8"), ("time", "<f8")])

ACS_SCATTER: Final = 1.7
"""The scatter of SPI-ACS counts relative to Poisson noise, from the ten rows printed in the notebook."""


def jemx(times: NDArray[np.float64], exposed: NDArray[np.float64], rate: float, background: float, seed: int) -> Any:
    """Return a light curve of JEM-X of a constant source; rates in counts per second, exposures in seconds."""
    counts = random_state(seed).poisson((rate + background) * exposed)
    curve = np.zeros(len(times), JEMX_COLUMNS)
    curve["TIME"] = times
    curve["RATE"] = counts / exposed - background
    curve["ERROR"] = np.sqrt(counts) / exposed
    curve["FRACEXP"] = exposed / exposed.max()
    return curve


def acs_rates(mean: float, width: float, bins: int, seed: int) -> NDArray[np.float64]:
    """Return count rates of SPI-ACS in bins of one width in seconds: integer counts, scattered around a mean rate."""
    counts = random_state(seed).normal(mean * width, ACS_SCATTER * np.sqrt(mean * width), bins)
    return np.asarray(np.rint(counts) / width)


def polar(start: float, bins: int, width: float, seed: int) -> NDArray[Any]:
    """Return the count rate of POLAR in bins from a time in seconds on: background, and a burst 20 s later.

    The times in the notebook suggest a burst; its start, fast rise and slow decay are arbitrary.
    """
    since = width * (np.arange(bins) + 0.5)
    after = np.maximum(since - 20.0, 0.0)
    burst = 900.0 * (1 - np.exp(-after / 0.8)) * np.exp(-after / 6.0)
    counts = random_state(seed).poisson(np.round((280.0 + burst) * width, 6))
    curve = np.zeros(bins, POLAR_COLUMNS)
    curve["rate"] = counts / width
    curve["rate_err"] = np.sqrt(counts) / width
    curve["time"] = start + since
    return curve
