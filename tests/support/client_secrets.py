"""Names and secrets of a client, and answers that hold them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle  # noqa: TID251  # a secret is hidden in one
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Envelope, Token
from oda_proxy.recordings.recording import Recording, redact, splice
from tests.support.dispatcher_responses import answer, json_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Key("0123456789abcdef" * 4)
ADDRESS = "https://dispatcher.example.org/dispatch-data"


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


EMAIL = "canary.owner@secret.example.org"
TOKEN = ".".join(
    [
        segment({"alg": "HS256", "typ": "JWT"}),
        segment({"sub": EMAIL, "name": "Canary Owner", "roles": "general", "exp": 1795330896}),
        "Ib1NF43aYchcdADUmR7q6NDW8B62yRuifPsrqle1mQs",
    ]
)
CANARY = "CANARYSESSION000"
OTHER_CANARY = "CANARYOFTHEFIRST"
JOB_CANARY = "c0ffee0123456789"
ENVELOPE = Envelope("ready", CANARY, JOB_CANARY, Token(TOKEN), {"oda_api_version": "1.3.5", "off_line": "False"})
STRANGER = Envelope("new", "STRANGERSSESSION", "", None, {"oda_api_version": "1.3.5", "off_line": "False"})

URL_2019 = (
    f"http://www.example.org/astrooda_?product_type=isgri_lc&session_id={CANARY}&job_id={JOB_CANARY}&token={TOKEN}"
)
WORK_DIR = f"scratch_sid_{CANARY}_jid_{JOB_CANARY}_aliased"
CALL_BACK = f"http://127.0.0.1:8021/call_back?job_id={JOB_CANARY}&session_id={CANARY}&token={TOKEN}"
SECRETS = [text.encode() for text in (CANARY, OTHER_CANARY, JOB_CANARY, *TOKEN.split(".")[1:], EMAIL, "secret.example")]

API_CODE = f"""from oda_api.api import DispatcherAPI
disp=DispatcherAPI(url='{ADDRESS}', instrument='mock')

par_dict={{
    "RA": 83.0,
    "api": "True",
    "instrument": "isgri",
    "oda_api_version": "1.3.5",
    "off_line": "False",
    "src_name": "Crab",
    "token": "{TOKEN}"
}}

data_collection = disp.get_product(**par_dict)
"""


def answer_to(envelope: Envelope, **changes: Any) -> dict[str, Any]:
    """Return the answer that a dispatcher sends to this client."""
    echo = {"RA": 83.0, "query_status": envelope.query_status, "session_id": envelope.session_id, **envelope.others}
    echo |= {"job_id": envelope.job_id} if envelope.job_id else {}
    sent = answer(**changes)
    sent["session_id"] = sent["products"]["session_id"] = sent["job_monitor"]["session_id"] = envelope.session_id
    sent["products"]["job_id"] = sent["job_monitor"]["job_id"] = envelope.job_id or KEY[:16]
    sent["products"]["analysis_parameters"] = {**echo, "token": envelope.token.text if envelope.token else None}
    return sent


def recorded(sent: Any, envelope: Envelope = ENVELOPE) -> Recording:
    return redact(json_bytes(sent), envelope, key=KEY, stored_at=1.0)


def spliced(recording: Recording, envelope: Envelope, address: str = ADDRESS) -> bytes:
    return b"".join(splice(recording, envelope, now=1700000000.5, address=address))


def product(**changes: Any) -> dict[str, Any]:
    unit = {"data": None, "dt": None, "name": "PRIMARY", "header": {"SIMPLE": True}, "binarys": None, "meta_data": {}}
    return {"name": "lc", "meta_data": "{}", "data_unit_list": [{**unit, "hdu_type": "primary", **changes}]}


def folded(text: str) -> str:
    """Split a text over cards, as it stands in a FITS file."""
    return f"{text[:7]}&'  CONTINUE  '{text[7:]}'"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in text)


def tar_gz(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a.fits.gz")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


HIDING: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: f"made for {secret} today",
    "in lower case": str.casefold,
    "percent-encoded": lambda secret: "".join(f"%{ord(character):02X}" for character in secret),
    "encoded twice": lambda secret: "".join(f"%25{ord(character):02X}" for character in secret),
    "folded": folded,
    "with blanks": " ".join,
    "in lines": "\n".join,
    "in JSON text": lambda secret: json.dumps({"query_parameters": json.dumps([{"name": "x", "value": secret}])}),
    "as base64": lambda secret: base64.b64encode(f"a header with {secret} in it".encode()).decode(),
    "as base64 for URLs": lambda secret: base64.urlsafe_b64encode(f"\xff\xfe {secret}".encode("latin1")).decode(),
    "in a pickle": lambda secret: base64.b64encode(pickle.dumps({"header": secret}, 4)).decode(),
    "as base64 after words": lambda secret: f"see, {b64(f'a header with {secret} in it'.encode())}",
    "as a data URL": lambda secret: f"data:application/fits;base64,{b64(secret.encode())}",
    "in JSON escapes": escaped,
    "in JSON escapes in JSON text": lambda secret: json.dumps({"a": escaped(secret)}),
    "in escapes of Python": lambda secret: "".join(f"\\x{ord(character):02x}" for character in secret),
    "as hexadecimal digits": lambda secret: f"made for {secret.encode().hex().upper()} today",
    "in groups of hexadecimal digits": lambda secret: secret.encode().hex(" "),
    "as HTML": lambda secret: "".join(f"&#{ord(character)};" for character in secret),
    "as HTML in hexadecimal digits": lambda secret: "".join(f"&#x{ord(character):X};" for character in secret),
    "encoded in a pickle": lambda secret: b64(pickle.dumps({"a": f"{secret[:-1]}%{ord(secret[-1]):X}"})),
    "folded in a FITS file": lambda secret: b64(folded(secret).encode()),
    "in a gzip file": lambda secret: b64(gzip.compress(secret.encode())),
    "in a file of a tar.gz": lambda secret: b64(tar_gz(gzip.compress(secret.encode()))),
    "in a column that is compressed": lambda secret: b64(zlib.compress(pickle.dumps(np.array([secret, "b"]), 4))),
    "in a column": lambda secret: base64.b64encode(pickle.dumps(np.array([secret, "b"]), 4)).decode(),
}
