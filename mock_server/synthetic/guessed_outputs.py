"""Outputs of a product whose description does not list them, guessed from its name."""

from __future__ import annotations

from typing import Final

from oda_proxy.fixture.model import OutputDescription

_WORDS: Final = (
    (("image", "mosaic", "skymap", "sky_map", "map"), "image"),
    (("light", "_lc", "lc_", "timing"), "light_curve"),
    (("picture", "plot", "figure", "png"), "picture"),
    (("spectr", "sed", "photometry"), "ascii_table"),
)
_SPECTRUM: Final = {"Energy": "TeV", "Flux": "erg / (cm2 s)", "Flux_err": "erg / (cm2 s)"}
_TABLE: Final[dict[str, str | None]] = {"ra": "deg", "dec": "deg", "value": None}


def guessed_outputs(product: str) -> tuple[OutputDescription, ...]:
    """Return the one output that the name of a product suggests; a table if it suggests nothing."""
    name = product.lower()
    kind = next((kind for words, kind in _WORDS if any(word in name for word in words)), None)
    columns = {} if kind not in (None, "ascii_table") else dict(_SPECTRUM) if kind else dict(_TABLE)
    return (OutputDescription("", kind or "ascii_table", columns=columns),)
