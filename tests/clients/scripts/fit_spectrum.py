"""Read spec.fits, arf.fits and rmf.fits with the OGIP reader pyspextools, and fit a cut-off power law to 20-60 keV.

    fit_spectrum.py FOLDER

The files are as `oda_api` writes them, but for what readers of OGIP files want: the names of extensions (OGIP/92-007,
CAL/GEN/92-002), their version 1, and the units of the ARF, which `oda_api` does not write. Prints one line of JSON.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from astropy.io import fits
from pyspextools.io.arf import Arf
from pyspextools.io.pha import Pha
from pyspextools.io.rmf import Rmf

NAMES = {
    "ISGR-EVTS-SPE": "SPECTRUM",
    "ISGR-ARF.-RSP": "SPECRESP",
    "ISGR-RMF.-RSP": "MATRIX",
    "ISGR-EBDS-MOD": "EBOUNDS",
    "SPECRESP MATRIX": "MATRIX",  # today's
}
UNITS = {"TUNIT1": "keV", "TUNIT2": "keV", "TUNIT3": "cm**2"}


def read(reader, file):
    """Read a file under the names of the standard."""
    renamed = file.with_name(f"ogip-{file.name}")
    with fits.open(file) as hdus:
        for hdu in hdus:
            if hdu.name in (*NAMES, *NAMES.values()):
                hdu.name, hdu.ver = NAMES.get(hdu.name, hdu.name), 1
            if hdu.name == "SPECRESP":
                hdu.header.update(UNITS)
        hdus.writeto(renamed, overwrite=True)
    assert reader.read(str(renamed)) == 0
    return reader


def response(arf, rmf):
    """Give the area of each photon energy for each channel, in cm2."""
    (matrix,) = rmf.matrix
    full = np.zeros((matrix.NumberEnergyBins, rmf.ebounds.NumberChannels))
    for row, group, groups in zip(full, matrix.FirstGroup, matrix.NumberGroups, strict=True):
        for number in range(group, group + groups):
            first, count = matrix.FirstChannelGroup[number], matrix.NumberChannelsGroup[number]
            start = matrix.FirstElement[number]
            row[first : first + count] = matrix.Matrix[start : start + count]
    return full * np.asarray(arf.EffArea, float)[:, None]


def fitted(pha, arf, rmf):
    """Fit norm, index and cut-off by least squares (Gauss and Newton)."""
    edges = np.asarray(rmf.ebounds.ChannelLowEnergy), np.asarray(rmf.ebounds.ChannelHighEnergy)
    channels = (edges[1] > 20) & (edges[0] < 60)
    rates, errors = np.asarray(pha.Rate, float)[channels], np.asarray(pha.StatError, float)[channels]
    low, high = np.asarray(arf.LowEnergy, float), np.asarray(arf.HighEnergy, float)
    energies = low[:, None] + (high - low)[:, None] * (np.arange(8) + 0.5) / 8
    areas = response(arf, rmf)[:, channels]

    def residuals(parameters):
        norm, index, cutoff = parameters
        photons = (norm * energies**index * np.exp(-energies / cutoff)).mean(axis=1) * (high - low)
        return (rates - photons @ areas) / errors

    parameters = np.array([1e-2, 0.1, 12.0])
    for _ in range(30):
        steps = np.diag(1e-6 * parameters)
        slopes = np.transpose([residuals(parameters - step) - residuals(parameters + step) for step in steps])
        slopes /= 2e-6 * parameters
        change = np.linalg.lstsq(slopes, residuals(parameters), rcond=None)[0]
        parameters *= np.clip(1 + change / parameters, 0.5, 2)
    return [*parameters.tolist(), float(np.sum(residuals(parameters) ** 2) / 2), int(channels.sum())]


def main():
    folder = Path(sys.argv[1])
    with redirect_stdout(sys.stderr):
        pha, arf, rmf = (
            read(reader, folder / f"{name}.fits") for reader, name in ((Pha(), "spec"), (Arf(), "arf"), (Rmf(), "rmf"))
        )
        faults = [pha.check(), arf.check(), rmf.check(), rmf.check_compatibility(arf)]
    print(json.dumps({"faults": faults, "fitted": fitted(pha, arf, rmf)}))


main()
