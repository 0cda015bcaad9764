"""Messages of SAMP that have another program load a file of a product (SAMP 1.3 and the list of its MTypes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMAGE: Final = "image.load.fits"
TABLE: Final = "table.load.fits"
SPECTRUM: Final = "spectrum.load.ssa-generic"

_MTYPES: Final = {"image": (IMAGE,), "spectrum": (SPECTRUM, TABLE)}
"""MTypes by the kind of a product, the most specific first; those of other kinds with FITS files are tables."""


@dataclass(frozen=True)
class Message:
    """A message: its MType and parameters."""

    mtype: str
    parameters: Mapping[str, Any]


def messages_for(summary: Mapping[str, Any], url: str, identifier: str) -> Sequence[Message]:
    """Return the messages that have a program load a product, the most specific first.

    `summary` is that of the product (`drawing.summaries`), `url` the address of its FITS file, `identifier` a unique
    name, by which programs refer to what they have loaded.
    """
    name, source = summary["name"], summary["source"]
    name = name if source in name else f"{name} {source}"
    return [_message(mtype, name, url, identifier) for mtype in _MTYPES.get(summary["kind"], (TABLE,))]


def _message(mtype: str, name: str, url: str, identifier: str) -> Message:
    subject = mtype.partition(".")[0]
    parameters: dict[str, Any] = {"url": url, "name": name, f"{subject}-id": identifier}
    if mtype == SPECTRUM:
        parameters["meta"] = {"Access.Format": "application/fits", "Access.Reference": url, "vox:Image_Title": name}
    return Message(mtype, parameters)
