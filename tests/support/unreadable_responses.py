"""Responses of dispatchers that some client releases cannot read, and which ones."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import pickle  # noqa: TID251  # pickles as dispatchers write them
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from tests.support.dispatcher_responses import answer, json_bytes
from tests.support.paths import CAPTURES, SAMPLES

OLDER_NUMPY = "1.2.37"
"""A release that runs with numpy 1.26.4 and astropy 6.1.4 here, the others with numpy 2.4.6 and astropy 8.0.2."""
VERSIONS = ("1.0", "1.1.0", "1.2.1", OLDER_NUMPY, "1.3.5")
AFTER_1_0 = VERSIONS[1:]
MODERN = VERSIONS[2:]
BEFORE_1_3 = VERSIONS[:4]
EARLY = VERSIONS[:2]

RATES = np.array([(0.5, 1.25), (1.5, np.nan)], dtype=[("TIME", ">f8"), ("RATE", ">f4")])
NULL = base64.b64decode("null")
NULLS = np.frombuffer((NULL * 3 + b"\0") * 3, "u1").reshape(3, 10)
"""Bytes whose base64 contains the letters `null`, at any alignment."""
ECSV = (
    "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\n# - {name: s, datatype: string}\na s\n1 x\n2 y\n"
)
TEXT = "the null hypothesis"


Whole = Callable[[Any, str], bool]
"""Returns whether a client of some release got the content of the response."""


@dataclass(frozen=True)
class UnreadableResponse:
    """A response: `repair` is its name in docs/repairs.md, `harmed` are the releases that cannot read it."""

    about: str
    repair: str
    body: bytes
    harmed: tuple[str, ...]
    whole: Whole
    status: int = 200


def encoded(array: Any, protocol: int = 4) -> str:
    """Return an array encoded as by a dispatcher."""
    return base64.b64encode(pickle.dumps(array, protocol)).decode()


def unit(array: Any = None, **changes: Any) -> dict[str, Any]:
    """Return a data unit as a dispatcher writes it."""
    return {
        "data": None,
        "dt": None if array is None else str(array.dtype),
        "name": "PRIMARY" if array is None else "RATE",
        "header": {},
        "binarys": None if array is None else encoded(array),
        "meta_data": {},
        "hdu_type": "primary" if array is None else "bintable" if array.dtype.names else "image",
        "units_dict": None,
        **changes,
    }


def product(*units: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a product with arrays as a dispatcher writes it."""
    meta_data = '{"src_name": "Crab", "time_bin": 2.0}'
    return {"data_unit_list": [unit(), *(units or [unit(RATES)])], "name": "lc", "meta_data": meta_data, **changes}


def with_products(**products: Any) -> bytes:
    """Return the body of a response with only these products."""
    sent = answer()
    del sent["products"]["numpy_data_product_list"]
    sent["products"] = {**sent["products"], **products}
    return json_bytes(sent)


def arrays(*units: dict[str, Any], **changes: Any) -> bytes:
    """Return the body of a response with one product."""
    return with_products(numpy_data_product_list=[product(*units, **changes)])


def captured(name: str) -> bytes:
    """Return the body of a recorded exchange with dispatcher 1.3.6."""
    return gzip.decompress((CAPTURES / name).read_bytes())


def changed(**changes: Any) -> bytes:
    """Return the body of a response with other members; None removes one."""
    sent = {**json.loads(arrays()), **changes}
    return json_bytes({name: value for name, value in sent.items() if value is not None})


def lines(text: str) -> str:
    """Return base64 in two lines, the second of which begins with `ull`."""
    at = text.index("ull")
    return f"{text[:at]}\n{text[at:]}"


# -- what is whole ---------------------------------------------------------------------------------


def digest(array: Any) -> Any:
    """Return the digest of an array, as computed by `tests/clients/scripts/ask_products.py`."""
    if array.dtype.names:
        return {name: digest(array[name]) for name in array.dtype.names}
    plain = np.ascontiguousarray(array)
    return [list(array.shape), str(plain.dtype), hashlib.sha256(plain.tobytes()).hexdigest()]


def holds(array: Any, **header: Any) -> Whole:
    """Expect an array, bit for bit, and these cards."""

    def whole(got: Any, version: str) -> bool:
        units = [unit for item in got.get("products", []) for unit in item["units"]]
        return any(unit["data"] == digest(array) and header.items() <= unit["header"].items() for unit in units)

    return whole


def comes(got: Any, version: str) -> bool:
    """Expect products, whatever they are."""
    return bool(got.get("products"))


def holds_table(got: Any, version: str) -> bool:
    """Expect the table."""
    return [item.get("columns") for item in got.get("products", [])] == [{"a": ["1", "2"], "s": ["x", "y"]}]


def holds_text(got: Any, version: str) -> bool:
    """Expect the text of those who know texts, and no error of the others."""
    return "error" not in got and (version in EARLY or [item["value"] for item in got["products"]] == [TEXT])


def holds_bytes(data: bytes) -> Whole:
    """Expect a file."""
    return lambda got, version: (
        [item.get("sha256") for item in got.get("products", [])] == [hashlib.sha256(data).hexdigest()]
    )


def ends_with(reason: str) -> Whole:
    """Expect a failure whose reason can be read."""
    return lambda got, version: "error" in got and reason in got["message"]


# -- the answers -----------------------------------------------------------------------------------

FILE = base64.urlsafe_b64encode(NULL * 6).decode()
ROOT = b"root\0a file"
FILE_OBJECT = {
    "name": "f.root",
    "data": base64.urlsafe_b64encode(ROOT).decode(),
    "md5": hashlib.md5(ROOT, usedforsecurity=False).hexdigest(),
}
TABLE: dict[str, Any] = {"name": "t", "meta_data": {}, "ascii": ECSV, "binary": None}
TABLE_META = {**TABLE, "meta_data": '{"src_name": "Crab"}'}
PICKLED_TABLE: dict[str, Any] = {
    "name": "t",
    "meta_data": {},
    "ascii": None,
    "binary": encoded(Table({"a": [1, 2], "s": ["x", "y"]})),
}


def fits_table(kind: str, release: str) -> bytes:
    """Write an answer with a table that was read from FITS and pickled by a release of the client, with its astropy."""
    pickled = base64.b64encode((SAMPLES / f"{kind}-{release}.pkl").read_bytes()).decode()
    with fits.open(SAMPLES / f"{kind}.fits") as hdus:
        header = dict(hdus[1].header)
    return arrays(unit(RATES, binarys=pickled, header=header))


UNREADABLE: dict[str, UnreadableResponse] = {
    "isgri-lc": UnreadableResponse("light curves of 30 sources", "", captured("isgri_lc.200.json.gz"), (), comes),
    "isgri-image": UnreadableResponse(
        "a mosaic and a catalogue", "meta-data", captured("isgri_image.200.json.gz"), ("1.0",), comes
    ),
    "polar-lc": UnreadableResponse(
        "a light curve and a ROOT file", "null-name", captured("polar_lc.200.json.gz"), EARLY, comes
    ),
    "spi-acs-lc": UnreadableResponse("a light curve", "null-name", captured("spi_acs_lc.200.json.gz"), EARLY, comes),
    "table-1.26": UnreadableResponse("a FITS table, by numpy 1.26", "", fits_table("table", "1.2.42"), (), comes),
    "matrix-1.26": UnreadableResponse(
        "a response matrix, by numpy 1.26", "", fits_table("variable", "1.2.42"), (), comes
    ),
    "table-2": UnreadableResponse(
        "a FITS table, by numpy 2 and astropy 8", "pickle-names", fits_table("table", "1.3.5"), (OLDER_NUMPY,), comes
    ),
    "matrix-2": UnreadableResponse(
        "a response matrix, by numpy 2 and astropy 8",
        "pickle-names",
        fits_table("variable", "1.3.5"),
        (OLDER_NUMPY,),
        comes,
    ),
    "unnamed": UnreadableResponse("`name` is null", "null-name", arrays(name=None), EARLY, holds(RATES)),
    "meta-null": UnreadableResponse(
        "null in `meta_data`", "meta-data", arrays(meta_data='{"a": null}'), ("1.0",), holds(RATES)
    ),
    "meta-true": UnreadableResponse(
        "true and false in `meta_data`",
        "meta-data",
        arrays(meta_data='{"a": true, "b": false}'),
        BEFORE_1_3,
        holds(RATES),
    ),
    "meta-null-true": UnreadableResponse(
        "null and true in `meta_data`", "meta-data", arrays(meta_data='{"a": null, "b": true}'), VERSIONS, holds(RATES)
    ),
    "meta-nan": UnreadableResponse(
        "NaN in `meta_data`", "meta-data", arrays(meta_data='{"a": NaN}'), BEFORE_1_3, holds(RATES)
    ),
    "meta-source": UnreadableResponse(
        "`src_name` is null", "meta-data", arrays(meta_data='{"src_name": null}'), VERSIONS, holds(RATES)
    ),
    "meta-object": UnreadableResponse(
        "`meta_data` is an object", "meta-data", arrays(meta_data={"a": "b"}), BEFORE_1_3, holds(RATES)
    ),
    "base64": UnreadableResponse(
        "`null` in the base64 of an array", "null-in-base64", arrays(unit(NULLS)), AFTER_1_0, holds(NULLS)
    ),
    "base64-lines": UnreadableResponse(
        "a line of base64 that begins with `ull`",
        "null-in-base64",
        arrays(unit(NULLS, binarys=lines(encoded(NULLS)))),
        AFTER_1_0,
        holds(NULLS),
    ),
    "base64-file": UnreadableResponse(
        "`null` in the base64 of a file",
        "null-in-base64",
        with_products(binary_data_product_list=[FILE]),
        AFTER_1_0,
        holds_bytes(NULL * 6),
    ),
    "comment": UnreadableResponse(
        "`null` in a card of a header",
        "null-in-unit",
        arrays(unit(RATES, header={"COMMENT": "null pixels"})),
        AFTER_1_0,
        holds(RATES, COMMENT="null pixels"),
    ),
    "nan": UnreadableResponse(
        "NaN in a header", "nan", arrays(unit(RATES, header={"A": math.nan, "B": 1.5})), AFTER_1_0, holds(RATES, B=1.5)
    ),
    "line": UnreadableResponse(
        "a text with a line that begins with `ull`",
        "broken-line",
        with_products(numpy_data_product_list=[product()], prod_process_message="a\nullage"),
        AFTER_1_0,
        holds(RATES),
    ),
    "table-text": UnreadableResponse(
        "a table as bare text",
        "table-form",
        with_products(astropy_table_product_ascii_list=[ECSV]),
        AFTER_1_0,
        holds_table,
    ),
    "table-object": UnreadableResponse(
        "a table as an object",
        "table-form",
        with_products(astropy_table_product_ascii_list=[TABLE]),
        ("1.0",),
        holds_table,
    ),
    "table-meta": UnreadableResponse(
        "a table whose `meta_data` text names a source",
        "table-form",
        with_products(astropy_table_product_ascii_list=[TABLE_META]),
        ("1.0", *MODERN),
        holds_table,
    ),
    "table-pickle": UnreadableResponse(
        "a pickled table beside an array",
        "table-form",
        with_products(numpy_data_product_list=[product()], astropy_table_product_binary_list=[PICKLED_TABLE]),
        EARLY,
        lambda got, version: holds(RATES)({"products": got.get("products", [])[:1]}, version),
    ),
    "file-object": UnreadableResponse(
        "a file as an object",
        "file-form",
        with_products(binary_data_product_list=[FILE_OBJECT]),
        EARLY,
        holds_bytes(ROOT),
    ),
    "text": UnreadableResponse(
        "`null` in a text product",
        "null-in-text",
        with_products(text_product_list=[{"name": "t", "value": TEXT}]),
        MODERN,
        holds_text,
    ),
    "bad-value": UnreadableResponse(
        "a parameter out of range: 400",
        "failure",
        captured("bad_RA.400.json.gz"),
        EARLY,
        ends_with("RA wrong value"),
        400,
    ),
    "bad-token": UnreadableResponse(
        "an invalid token: 403", "failure", captured("bad_token.403.json.gz"), ("1.1.0",), ends_with("not valid"), 403
    ),
    "no-role": UnreadableResponse(
        "a role is missing: 403", "failure", captured("missing_roles.403.json.gz"), (), ends_with("priviledges"), 403
    ),
    "silent": UnreadableResponse(
        "a job that failed without saying why",
        "failure",
        captured("analysis_fails.200.json.gz"),
        VERSIONS,
        ends_with("mosaic_ii_skyimage: task failed"),
    ),
    "no-reason": UnreadableResponse(
        "400 without `error`", "failure", b'{"error_message":"odd request"}', VERSIONS, ends_with("odd request"), 400
    ),
    "page": UnreadableResponse(
        "500 as HTML",
        "failure",
        b"<html><title>500</title><h1>Internal Server Error</h1></html>",
        ("1.0",),
        ends_with("Internal Server Error"),
        500,
    ),
    "no-session": UnreadableResponse(
        "no session in `job_monitor`",
        "job",
        changed(job_monitor={"job_id": "5bfa425b4384c651", "status": "done"}),
        MODERN,
        comes,
    ),
    "no-monitor": UnreadableResponse("no `job_monitor`", "job", changed(job_monitor=None), ("1.0", *MODERN), comes),
    "number": UnreadableResponse(
        "`job_id` is a number",
        "job",
        changed(job_monitor={"job_id": 815032431550934891, "session_id": "S", "status": "done"}),
        AFTER_1_0,
        comes,
    ),
    "no-comment": UnreadableResponse(
        "`exit_status` without `comment`",
        "job",
        changed(exit_status={"status": 0, "message": "", "error_message": "", "debug_message": ""}),
        MODERN,
        comes,
    ),
}
