"""Responses of a dispatcher, for tests."""

from __future__ import annotations

import json
from typing import Any

SESSION = "SESSIONAAAAAAAAA"
JOB = "5bfa425b4384c651"
ARRAY = (
    "gANjbnVtcHkuY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxAGNudW1weQpuZGFycmF5CnEBSwCFcQJDAWJxA4dxBFJxBShLAUsBhXEGY251"
    "bXB5CmR0eXBlCnEHWAIAAABmNHEIiYiHcQlScQooSwNYAQAAAD5xC05OTkr/////Sv////9LAHRxDGKJQwQ/wAAAcQ10cQ5iLg=="
)
"""One number, as pickled by the codec: it needs no repair."""


def answer(**changes: Any) -> dict[str, Any]:
    """Return a completed response of dispatcher 1.3.6 to a public query; `products` is merged, the rest replaced."""
    products = {
        "numpy_data_product_list": [{"name": "lc", "meta_data": "{}", "data_unit_list": [{"binarys": ARRAY}]}],
        "prod_process_message": "",
        "session_id": SESSION,
        "job_id": JOB,
        "input_prod_list": [],
        "analysis_parameters": {
            "RA": 83.0,
            "instrument": "isgri",
            "api": "True",
            "query_status": "new",
            "session_id": SESSION,
            "oda_api_version": "1.3.5",
            "off_line": "False",
            "token": None,
        },
        "api_code": "disp.get_product(**par_dict)\n",
    }
    return {
        "query_status": "done",
        "exit_status": {
            "status": 0,
            "message": "",
            "error_message": "",
            "debug_message": "",
            "comment": "",
            "warning": "",
            "job_status": "done",
        },
        "job_monitor": {"job_id": JOB, "session_id": SESSION, "status": "done"},
        "job_status": "done",
        "session_id": SESSION,
        "time_request": 1700000000.5,
        **changes,
        "products": products | changes.get("products", {}),
    }


def json_bytes(value: Any) -> bytes:
    """Return JSON as the dispatcher writes it."""
    return (json.dumps(value, separators=(",", ":")) + "\n").encode("ascii")
