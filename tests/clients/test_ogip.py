"""An independent reader of OGIP files reads what clients write, and a fit finds the model of the notebook."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.paths import CLIENT_SCRIPTS
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real

K, INDEX, CUTOFF, LIKELIHOOD, CHANNELS = 0.00230365, 0.531183, 9.7834, 5.24134, 18
"""Of the cut-off power law that the notebook fits with threeML to 20-60 keV, as printed there."""


@pytest.mark.parametrize(("version", "generation"), [("1.0", "2019"), ("1.3.5", "today")])
def test_the_cut_off_power_law_of_the_notebook_is_found_in_what_a_client_writes(
    run_client: Callable[..., Any], reader_python: Path, tmp_path: Path, version: str, generation: str
) -> None:
    mock = ["mock", "--generation", generation, "--time-scale", "0", "--port", "0"]
    with running(tmp_path / "log", *mock) as server:
        run_client(version, "notebook.py", server.url, str(tmp_path), "isgri_spectrum")

    fit = [reader_python, CLIENT_SCRIPTS / "fit_spectrum.py", tmp_path]
    result = subprocess.run(fit, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert result.returncode == 0, result.stderr
    fit_result = json.loads(result.stdout)
    norm, index, cutoff, likelihood, channels = fit_result["fitted"]
    assert fit_result["faults"] == [0, 0, 0, 0]
    assert channels == CHANNELS
    assert (norm, index, cutoff) == pytest.approx((K, INDEX, CUTOFF), rel=1e-3)
    assert likelihood == pytest.approx(LIKELIHOOD, rel=1e-3)
