"""Queries a dispatcher for one image, with the standard library only."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
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
"""The query for the image of the notebook; there is a fixture for it."""


def get_image(url: str, **changes: str) -> dict[str, Any]:
    """Query the image, with some parameters changed, and return the response, also if it is a failure."""
    return get_image_and_headers(url, **changes)[0]


def get_image_and_headers(url: str, **changes: str) -> tuple[dict[str, Any], Message]:
    """Query the image like `get_image`, and return the response and its headers."""
    try:
        with urllib.request.urlopen(f"{url}/run_analysis?{urlencode({**IMAGE, **changes})}") as response:  # noqa: S310 - on this machine
            return json.load(response), response.headers
    except HTTPError as error:
        with error:
            return json.load(error), error.headers


def run_image(url: str, **changes: str) -> list[str]:
    """Query the image until its products come, like a client, and return the states; `broken` stands for an error."""
    states, sent = [], dict(changes)
    for _ in range(200):
        try:
            answer = get_image(url, **sent)
        except (ValueError, OSError, HTTPException):
            states.append("broken")
            continue
        states.append(answer.get("query_status", "failed"))
        if states[-1] in {"done", "failed"}:
            return states
        sent |= {"query_status": states[-1], "job_id": answer["job_monitor"]["job_id"]}
    return states


def mock_status(mock_url: str) -> dict[str, Any]:
    """Return `/-/status` of a mock."""
    with urllib.request.urlopen(f"{mock_url}/-/status") as response:  # noqa: S310 - on this machine
        status: dict[str, Any] = json.load(response)
    return status
