"""The program of the drawing process: reads recordings and tasks from standard input, and writes files.

A request is a line of JSON, followed by the head of the recording unless the process holds it already. A response is a
line of JSON: `{}`, or the error. The program limits its own memory, and ends with its standard input.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.capsule.conversion import wire_products
from oda_proxy.drawing.making import perform
from oda_proxy.drawing.tasks import read_task
from oda_proxy.errors import InternalError, OdaProxyError
from oda_proxy.query.cache_key import Key
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.store import rows

if TYPE_CHECKING:
    from typing import IO

    from oda_proxy.recordings.recording import Recording

_NICENESS: Final = 5
"""Requests go first."""
_MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of a head that is held for the next task on the same recording."""
_UNPROCESSABLE, _UNAVAILABLE = 422, 503


@dataclass(frozen=True)
class _Held:
    """A recording with its products in the wire form."""

    name: str
    recording: Recording
    products: dict[str, Any]


def main(memory: int, largest_file: int) -> None:
    """Answer requests until standard input ends; sizes are in bytes."""
    source = sys.stdin.buffer
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no response
    _import_all()
    _limit(memory, largest_file)
    _write(responses, {})
    held: _Held | None = None
    while line := source.readline():
        request = json.loads(line)
        head = source.read(request["size"]) if request["size"] is not None else None
        response: dict[str, Any] = {}
        try:
            if head is not None:
                held = None  # before the next one takes its memory
                held = _load(request, head)
            if held is not None and held.name == request["name"]:
                with Path(request["output"]).open("wb") as file:
                    perform(read_task(request["task"]), held.recording, held.products, file)
        except OdaProxyError as error:
            status = error.http_status if error.http_status != OdaProxyError.http_status else _UNPROCESSABLE
            response = {"error": str(error), "status": status}
        except MemoryError:
            response = {"error": f"it takes more memory than {memory // 2**20} MiB", "status": _UNPROCESSABLE}
        except OSError as error:
            status = _UNPROCESSABLE if error.errno == errno.EFBIG else _UNAVAILABLE
            response = {"error": f"its file cannot be written: {error.strerror or error}", "status": status}
        except Exception as error:  # noqa: BLE001 - whatever a library raises for a strange product
            internal = InternalError(error)
            response = {"error": str(internal), "status": 500, "log": internal.log_line}
        if head is None or len(head) > _MAX_HELD:
            held = held if head is None else None
        response["held"] = held is not None
        _write(responses, response)


def _load(request: dict[str, Any], head: bytes) -> _Held:
    recording = rows.loads(Key(request["key"]), request["row"]).recording(MemoryHead(head))
    return _Held(request["name"], recording, wire_products(recording))


def _import_all() -> None:
    """Import what drawing needs, so that the first picture does not wait for it."""
    from astropy.utils import iers

    iers.conf.auto_download = False
    try:
        from oda_proxy.drawing import figure  # noqa: F401 - first: astropy fails in other ways without matplotlib
    except ImportError:
        return  # there are files all the same
    import astropy.coordinates
    import astropy.visualization.wcsaxes
    import astropy.wcs  # noqa: F401


def _limit(memory: int, largest_file: int) -> None:
    """Limit the memory and the files of this process, and let others run first."""
    if sys.platform == "win32":
        return
    import resource

    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, largest_file),
        (resource.RLIMIT_CORE, 0),
    ):
        _, highest = resource.getrlimit(kind)
        allowed = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(kind, (allowed, allowed))
    with suppress(OSError):  # where that is not allowed, all have the same priority
        os.nice(_NICENESS)


def _write(responses: IO[bytes], response: dict[str, Any]) -> None:
    responses.write(json.dumps(response).encode() + b"\n")
    responses.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
