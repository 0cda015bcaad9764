"""Asking a dispatcher for one image with nothing but the standard library."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlencode

if TYPE_CHECKING:
    from email.message import Message

IMAGE = {
    "instrument": "isgri",
    "product_type": "isgri_image",
    "query_type": "Real",
    "query_status": "new",
    "api": "True",
    "oda_api_version": "1.3.5",
    "off_line": "False",
    "session_id": "ABCDEFGHIJKLMNOP",
    "osa_version": "OSA10.2",
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "E1_keV": "20.0",
    "E2_keV": "40.0",
    "RA": "255.986542",
    "DEC": "-37.844167",
    "detection_threshold": "5.0",
    "radius": "15.0",
}
"""What the image of the notebook is asked with; there is a fixture for it."""


def ask(url: str, **changes: str) -> dict[str, Any]:
    """Ask for the image, with some parameters changed, and give the answer, be it a failure."""
    return asked(url, **changes)[0]


def asked(url: str, **changes: str) -> tuple[dict[str, Any], Message]:
    """Ask for the image as `ask` does, and give the answer with its headers."""
    try:
        with urllib.request.urlopen(f"{url}/run_analysis?{urlencode({**IMAGE, **changes})}") as response:  # noqa: S310 - on this machine
            return json.load(response), response.headers
    except HTTPError as error:
        with error:
            return json.load(error), error.headers


def status(mock_url: str) -> dict[str, Any]:
    """Give what a mock tells of itself."""
    with urllib.request.urlopen(f"{mock_url}/-/status") as response:  # noqa: S310 - on this machine
        told: dict[str, Any] = json.load(response)
    return told
