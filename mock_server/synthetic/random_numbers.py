"""Random numbers that do not depend on the machine or the release of numpy."""

from __future__ import annotations

import numpy as np


def random_state(seed: int) -> np.random.RandomState:
    """Return a generator whose stream numpy has frozen (NEP 19).

    The streams of `numpy.random.default_rng` can change with any release.
    """
    return np.random.RandomState(seed)
