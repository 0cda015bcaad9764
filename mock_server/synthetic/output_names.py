"""The names of the files in which the outputs of a product are downloaded, as in nb2workflow's plugin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oda_proxy.fixture.model import OutputDescription

_ENDINGS: Final[Mapping[str, str]] = {
    "image": ".fits",
    "light_curve": ".fits",
    "spectrum": ".fits",
    "table": ".fits",
    "ascii_table": ".ecsv",
    "picture": ".png",
    "binary": "",
    "text": "",
}
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+-]+")
_MAX_NAME: Final = 60


def file_names(outputs: Iterable[OutputDescription]) -> list[str]:
    """Return the name of the file of each output, such as `spectrum.fits`; empty for those that are no file.

    A name that two outputs have gets a number the second time.
    """
    names: list[str] = []
    for number, output in enumerate(outputs):
        ending = _ENDINGS.get(output.kind)
        stem = _UNSAFE.sub("_", output.name).strip("._")[:_MAX_NAME] or output.kind
        name = "" if ending is None else f"{stem}{ending}"
        names.append(f"{stem}_{number}{ending}" if name and name in names else name)
    return names
