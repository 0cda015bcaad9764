"""Performs the tasks of a drawing process: writes what is made of a recording to a file."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.drawing import downloads, summaries
from oda_proxy.drawing.choice import choose_drawing
from oda_proxy.drawing.tasks import Kind
from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

    from oda_proxy.drawing.tasks import Task
    from oda_proxy.recordings.recording import Recording


_NO_MATPLOTLIB: Final = "pictures need matplotlib, which this server lacks: pip install 'oda-proxy[plots]'"


class NoMatplotlibError(OdaProxyError):
    """Pictures need a package that is not installed."""

    http_status = 501

    def __init__(self) -> None:
        super().__init__(_NO_MATPLOTLIB)


def perform(task: Task, recording: Recording, products: Mapping[str, Any], file: IO[bytes]) -> None:
    """Write what a task makes of a recording, whose products are in the wire form, to a file.

    Raises OdaProxyError where it cannot be made.
    """
    match task.kind:
        case Kind.PICTURE:
            file.write(_picture(products, task.number))
        case Kind.FITS:
            file.write(downloads.fits_file(products, task.number))
        case Kind.HEADER:
            file.write(downloads.header_text(products, task.number, task.unit).encode("utf-8", "replace"))
        case Kind.SUMMARIES:
            file.write(json.dumps(_summaries(products)).encode())
        case Kind.ARCHIVE:
            downloads.write_archive(file, recording, products)
        case Kind.FIXTURE:
            downloads.write_fixture_archive(file, recording, task.source)


def _summaries(products: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the summaries of products; without matplotlib, no picture, and why in `no_picture`."""
    found = summaries.summaries_of(products)
    if find_spec("matplotlib") is not None:
        return found
    return [
        {**summary, "has_picture": False, "no_picture": _NO_MATPLOTLIB} if summary["has_picture"] else summary
        for summary in found
    ]


def _picture(products: Mapping[str, Any], number: int) -> bytes:
    try:
        from oda_proxy.drawing.figure import png_of
    except ImportError:
        raise NoMatplotlibError from None
    return png_of(choose_drawing(products, number))
