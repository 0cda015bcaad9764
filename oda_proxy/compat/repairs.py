"""What some generation of the client cannot read in an answer, and how it is said so that all of them can.

Clients after 1.0 turn an answer into Python text, replace the letters `null` in it by `None`, wherever they stand, and
evaluate it; all up to 1.2.42 evaluate a product's `meta_data` as Python, too. Each repair (`REPAIRS`) says the same in
another way. None changes a number, and what needs none keeps its bytes. docs/repairs.md tells of each, and of what
cannot be repaired.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec.json_spans import JsonMember, compact, json_members
from oda_proxy.compat.failure_answers import NO_JOB, failure_body
from oda_proxy.compat.generations import VERSION_DEPENDENT
from oda_proxy.compat.generations import adapted as adapted_member
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from oda_proxy.query.query import Envelope

Cure = Callable[[Any], Any]
"""It gives the same object where there is nothing to repair."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that kills or deceives some client: its name in docs/repairs.md, what it is about, and its cure."""

    name: str
    about: str
    cure: Cure


def repaired(body: bytes, status: int, envelope: Envelope) -> bytes:
    """Repair an answer to `run_analysis` that goes to a client: the same bytes where there is nothing to repair.

    A failure that is no JSON becomes one: `status` is that of the answer.
    """
    try:
        text, top, products = _parsed(body)
    except (ValueError, RecursionError):
        return _dumped(failure_body(_plain_reason(body, status), envelope)) if status >= FAILED else body
    told = {m.name: _everywhere(m.value) for m in top if m.name != "products"}
    if status < FAILED and "query_status" not in told:
        return body
    new = {m.name: _product_member(m.name, m.value) for m in products}
    told = _completed(told, status, envelope)
    told.pop("products", None)
    return _rewritten(text, top, told, products, new)


def adapted(body: bytes, version: str | None) -> bytes:
    """Give a repaired answer the forms that a client of this `oda_api_version` reads (`forms`)."""
    if not any(name.encode() in body for name in VERSION_DEPENDENT):
        return body
    try:
        text, top, products = _parsed(body)
    except (ValueError, RecursionError):
        return body
    new = {
        m.name: adapted_member(m.name, m.value, version) if m.name in VERSION_DEPENDENT else m.value for m in products
    }
    return _rewritten(text, top, {m.name: m.value for m in top if m.name != "products"}, products, new)


def with_job_id(body: bytes, job_id: str) -> bytes:
    """Give an answer the job_id that its asker was told: clients since 1.1.46 end with an error where it changes."""
    try:
        text, top, products = _parsed(body)
    except (ValueError, RecursionError):
        return body
    told = {m.name: m.value for m in top if m.name != "products"}
    if isinstance(told.get("job_monitor"), dict):
        told["job_monitor"] = _with(told["job_monitor"], job_id=job_id)
    new = {m.name: job_id if m.name == "job_id" else m.value for m in products}
    return _rewritten(text, top, told, products, new)


def without_configuration(body: bytes) -> bytes:
    """Leave out of a failure what it tells of the dispatcher's configuration: folders and addresses."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(answer, dict) or "config" not in answer:
        return body
    return _dumped({name: value for name, value in answer.items() if name != "config"})


def _parsed(body: bytes) -> tuple[str, list[JsonMember], list[JsonMember]]:
    """Read an answer: its text, its members, and those of its products; raises as `members`."""
    text = body.decode("utf-8")
    top = list(json_members(text))
    begins = [m.begin for m in top if m.name == "products" and isinstance(m.value, dict)]
    return text, top, [member for begin in begins for member in json_members(text, begin)]


def _rewritten(
    text: str, top: list[JsonMember], told: dict[str, Any], products: list[JsonMember], new: dict[str, Any]
) -> bytes:
    """Write an answer anew, its unchanged parts as they were: `told` are its members beside products, `new` those."""
    before = {m.name: m.value for m in top}
    same_products = isinstance(before.get("products"), dict) and all(new[m.name] is m.value for m in products)
    same_names = told.keys() | {"products"} == before.keys()
    if same_products and same_names and all(told[name] is before[name] for name in told):
        return text.encode("utf-8")
    parts = []
    for member in top:
        if member.name == "products" and not same_products:
            parts.append(f'"products":{{{",".join(_written(text, m, new[m.name]) for m in products)}}}')
        elif member.name == "products":
            parts.append(_written(text, member, member.value))
        elif member.name in told:
            parts.append(_written(text, member, told[member.name]))
    if "products" not in before:
        parts.append('"products":{}')
    parts += [f"{json.dumps(name)}:{compact(value)}" for name, value in told.items() if name not in before]
    return f"{{{','.join(parts)}}}\n".encode()


def _written(text: str, member: JsonMember, value: Any) -> str:
    raw = text[member.begin : member.end] if value is member.value else compact(value)
    return f"{json.dumps(member.name)}:{raw}"


def _dumped(answer: dict[str, Any]) -> bytes:
    return f"{compact(answer)}\n".encode()


# -- anywhere --------------------------------------------------------------------------------------


def _finite(value: Any) -> Any:
    """Say null for NaN, which is no JSON, and which clients after 1.0 take for a name."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unbroken(value: Any) -> Any:
    r"""Put a blank before `ull` at the begin of a line: Python text spells it `\null`, and `\None` is no character."""
    return value.replace("\null", "\n ull") if isinstance(value, str) and "\null" in value else value


def _everywhere(value: Any) -> Any:
    """Apply the repairs of what may stand anywhere in an answer."""
    if isinstance(value, dict):
        return _same(value, {name: _everywhere(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return _mapped(value, _everywhere)
    return _all(_ANYWHERE, value)


# -- texts within texts ----------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|null|true|false')
_ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|null")
_NOT_PYTHON = {
    "null": '""',
    "true": "1",
    "false": "0",
    "NaN": '"nan"',
    "Infinity": '"inf"',
    "-Infinity": '"-inf"',
}


def _spelled(text: str) -> str:
    """Spell the strings in a JSON text so that they survive as Python text, and hold no `null`."""

    def spelled(found: re.Match[str]) -> str:
        match found[0]:
            case "null":
                return "n\\u0075ll"
            case "\\n" if found.string.startswith("ull", found.end()):
                return "\\u000a"
            case "\\/":
                return "/"
            case pair if len(pair) == len("\\ud83d\\ude00"):
                return str(json.loads(f'"{pair}"'))  # Python text would have two characters of it
            case other:
                return other

    return _TOKEN.sub(lambda token: _ESCAPE.sub(spelled, token[0]) if token[0][0] == '"' else token[0], text)


def _python_and_json(text: str) -> str:
    """Write a JSON text so that it says the same as Python, without null, true, false and NaN."""
    return _TOKEN.sub(lambda token: _NOT_PYTHON.get(token[0], token[0]), _spelled(text))


def _object(value: Any) -> Any:
    """Read an object that was sent as JSON text; anything else stays as it is."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return inner if isinstance(inner, dict) else value
    return value


# -- products of arrays ----------------------------------------------------------------------------


def _named(product: Any) -> Any:
    return _with(product, name="") if product.get("name") is None else product


def _meta_data_text(product: Any) -> Any:
    meta_data = product.get("meta_data")
    if meta_data is None:
        return _with(product, meta_data="{}")
    if isinstance(meta_data, dict):
        meta_data = compact(meta_data)
    if not isinstance(meta_data, str) or not isinstance(_object(meta_data), dict):
        return product
    return _with(product, meta_data=_python_and_json(meta_data))


RENAMED: Final = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.defchararray": "numpy.core.defchararray",
    "numpy.char": "numpy.core.defchararray",
    "astropy.utils.compat.numpycompat": "numpy.core.defchararray",
}
"""Modules of numpy 2 and astropy 8 that hold what every numpy has under the other name."""


def _renamed(text: Any) -> Any:
    """Rename what a pickle loads to names that every numpy knows."""
    if not isinstance(text, str):
        return text
    try:
        data = binascii.a2b_base64(text)
        if not any(name.encode() in data for name in RENAMED):
            return text
        from oda_proxy.codec import pickle_operations  # numpy is slow to load, and not needed before the first product

        renamed = pickle_operations.with_renamed_modules(data, RENAMED)
    except (ValueError, CodecError):
        return text  # the screening has its own word for it
    return text if renamed == data else base64.b64encode(renamed).decode("ascii")


def _broken_up(text: Any) -> Any:
    """Break up the word `null` in base64, whose decoders skip blanks."""
    if not isinstance(text, str) or ("null" not in text and "\null" not in text):
        return text
    return "".join(text.split()).replace("null", "nu ll")


def _pickle_named(unit: Any) -> Any:
    return _with(unit, binarys=_renamed(unit["binarys"])) if "binarys" in unit else unit


def _pickle_broken_up(unit: Any) -> Any:
    return _with(unit, binarys=_broken_up(unit["binarys"])) if "binarys" in unit else unit


def _unit_as_text(unit: Any) -> Any:
    """Send a unit as JSON text where a text in it says `null`: there the word can be spelled with an escape.

    Every client reads a unit in both forms. The text cannot have a null of its own: `data`, of which a unit with a
    pickle has none, is an empty text then. Where there are others, the unit stays as it is.
    """
    if not isinstance(unit.get("binarys"), str):
        return unit
    said = {**unit, "data": "", "dt": unit.get("dt") or ""}
    if said.get("units_dict") is None:
        said.pop("units_dict", None)
    text = compact(said)
    if "null" not in text:
        return unit
    text = _spelled(text)
    return unit if "null" in text else text


# -- other products --------------------------------------------------------------------------------


def _table_as_object(table: Any) -> Any:
    """Make a table an object, whose `meta_data` is one, too: 1.0 is sent the bare text in the end (`forms`)."""
    described = _object(table)
    if isinstance(described, str):
        return {"name": "", "meta_data": {}, "ascii": described, "binary": None}
    if not isinstance(described, dict):
        return table
    meta_data = _object(described.get("meta_data"))
    if meta_data is None:
        meta_data = {}
    if isinstance(meta_data, dict):
        empty = {name: "" for name in ("src_name", "product") if name in meta_data and meta_data[name] is None}
        meta_data = _with(meta_data, **empty)
    return _with(described, meta_data=meta_data)


def _binary_broken_up(product: Any) -> Any:
    described = _object(product)
    if not isinstance(described, dict):
        return _broken_up(described)
    return _with(described, **{name: _broken_up(described[name]) for name in _BASE64 if name in described})


_BASE64 = ("data", "b64data", "binary")


def _table_named(table: Any) -> Any:
    return _with(table, binary=_renamed(table["binary"])) if isinstance(table, dict) and "binary" in table else table


def _texts_spelled(texts: Any) -> Any:
    """Send texts as JSON text where they say `null`, if all are objects: else clients take none of them for one."""
    described = _mapped(texts, _object)
    if not all(isinstance(text, dict) and "value" in text for text in described):
        return texts
    return _mapped(described, _text_spelled)


def _text_spelled(text: Any) -> Any:
    written = compact(_said(text))
    spelled = _spelled(written)
    return text if written == spelled or "null" in spelled else spelled


def _said(text: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in text.items() if value is not None}


# -- whole answers ---------------------------------------------------------------------------------

FAILED = 400
"""The first status of a failure."""
_SAID = ("message", "error_message", "debug_message", "comment", "warning")


def _completed(answer: dict[str, Any], status: int, envelope: Envelope) -> dict[str, Any]:
    """Give an answer the members without which some client ends with an error of its own, or asks on and on."""
    if status < FAILED and answer.get("query_status") != "failed":
        return _with(answer, **_job(answer, envelope))
    answer = {name: value for name, value in answer.items() if name != "config"}
    full = failure_body(_reason(answer, status), envelope)
    if status < FAILED:
        del full["error"], full["error_message"]
    ended = answer.get("exit_status")
    ended = ended if isinstance(ended, dict) else {}
    known = {name: value for name, value in ended.items() if value not in (None, "") and name != "status"}
    full["exit_status"] = _same(
        ended, {**full["exit_status"], **ended, **known, "message": full["exit_status"]["message"]}
    )
    if full["exit_status"].get("status") in (0, None):
        full["exit_status"] = {**full["exit_status"], "status": 1}
    given = {name: value for name, value in answer.items() if value is not None and name != "exit_status"}
    return {**full, **given, **_job({**full, **given}, envelope), "exit_status": full["exit_status"]}


def _job(answer: dict[str, Any], envelope: Envelope) -> dict[str, Any]:
    """Complete what an answer says of its job, and of how it ended."""
    new: dict[str, Any] = {}
    monitor, ended = answer.get("job_monitor"), answer.get("exit_status")
    if not isinstance(monitor, dict):
        monitor = {}
    job_id = monitor.get("job_id")
    if job_id is None:
        job_id = envelope.job_id or NO_JOB
    session_id = monitor.get("session_id")
    if session_id is None:
        session_id = answer.get("session_id") or envelope.session_id
    state = monitor.get("status", answer.get("query_status"))
    new["job_monitor"] = _with(monitor, job_id=str(job_id), session_id=session_id, status=state)
    if isinstance(ended, dict):
        new["exit_status"] = _with(ended, **{name: "" for name in _SAID if ended.get(name) is None})
    return new


def _reason(answer: dict[str, Any], status: int) -> str:
    """Find out why a job failed: clients show `exit_status.message`."""
    ended = answer.get("exit_status")
    told = [ended.get("message"), ended.get("error_message")] if isinstance(ended, dict) else []
    told += [answer.get("error_message"), answer.get("error"), answer.get("message")]
    monitor = answer.get("job_monitor")
    report = monitor.get("full_report_dict") if isinstance(monitor, dict) else None
    if isinstance(report, dict):
        told.append(
            ": ".join(["the job failed", *(str(report[name]) for name in ("node", "message") if report.get(name))])
        )
    told.append(
        "the job failed; the dispatcher does not say why" if status < FAILED else f"the dispatcher answered {status}"
    )
    return next(reason for reason in told if isinstance(reason, str) and reason)


def _plain_reason(body: bytes, status: int) -> str:
    """Say what a failure says that is no JSON, in one line."""
    text = re.sub(r"(?s)<(style|script|title)\b.*?</\1>|<[^>]*>", " ", body[:20_000].decode("utf-8", "replace"))
    words = " ".join(html.unescape(text).split())[:500]
    return f"the dispatcher answered {status}: {words}" if words else f"the dispatcher answered {status}"


# -- the table -------------------------------------------------------------------------------------

_ANYWHERE = (
    Repair("nan", "NaN and infinities outside arrays", _finite),
    Repair("broken-line", "a line that begins with `ull`", _unbroken),
)
_PRODUCT = (
    Repair("null-name", "a product without a name", _named),
    Repair("meta-data", "null, true, false, NaN in the text of meta_data", _meta_data_text),
)
_UNIT = (
    Repair("pickle-names", "pickles that name the internals of a newer numpy or astropy", _pickle_named),
    Repair("null-in-base64", "the letters `null` in base64", _pickle_broken_up),
    Repair("null-in-unit", "the word `null` in a header, a name or a unit", _unit_as_text),
)
_TABLE = (
    Repair("table-form", "tables as text, or with meta_data as text", _table_as_object),
    Repair("pickle-names", "as above, in a table", _table_named),
    Repair("null-in-base64", "as above, in a table", _binary_broken_up),
)
_BINARY = (Repair("null-in-base64", "as above, in files and pictures", _binary_broken_up),)
_TEXTS = (Repair("null-in-text", "the word `null` in a text product", _texts_spelled),)

REPAIRS: Final = (*_ANYWHERE, *_PRODUCT, *_UNIT, *_TABLE, *_BINARY, *_TEXTS)
"""Every repair within products. Beside them, failures and jobs are completed, and `forms` chooses by generation."""


def _all(repairs: tuple[Repair, ...], value: Any) -> Any:
    for repair in repairs:
        value = repair.cure(value)
    return value


def _product_member(name: str, value: Any) -> Any:
    """Repair a member of `products`."""
    value = _everywhere(value)
    match name:
        case "numpy_data_product":
            return _product(value)
        case "gw_skymap_product" if isinstance(value, dict) and isinstance(value.get("skymaps"), dict):
            skymaps = value["skymaps"]
            return _with(value, skymaps=_same(skymaps, {event: _product(map_) for event, map_ in skymaps.items()}))
        case "catalog":
            return _object(value)
        case _ if isinstance(value, list):
            return _listed(name, value)
    return value


def _listed(name: str, items: list[Any]) -> list[Any]:
    match name:
        case "numpy_data_product_list":
            return _mapped(items, _product)
        case "astropy_table_product_ascii_list" | "astropy_table_product_binary_list":
            return _mapped(items, lambda item: _all(_TABLE, item))
        case "binary_data_product_list" | "binary_image_product_list":
            return _mapped(items, lambda item: _all(_BINARY, item))
        case "text_product_list":
            repaired_texts: list[Any] = _all(_TEXTS, items)
            return repaired_texts
    return items


def _product(value: Any) -> Any:
    product = _object(value)
    if not isinstance(product, dict):
        return value
    if isinstance(units := product.get("data_unit_list"), list):
        product = _with(product, data_unit_list=_mapped(units, _unit))
    return _all(_PRODUCT, product)


def _unit(value: Any) -> Any:
    unit = _object(value)
    return _all_of_unit(unit) if isinstance(unit, dict) else value


def _all_of_unit(unit: Any) -> Any:
    return _all(_UNIT, unit)


# -- the same object where nothing changed ---------------------------------------------------------


def _with(value: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Change members of an object."""
    if all(name in value and (value[name] is new or value[name] == new) for name, new in changes.items()):
        return value
    return {**value, **changes}


def _same(value: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return value if value.keys() == new.keys() and all(value[name] is new[name] for name in value) else new


def _mapped(items: list[Any], cure: Cure) -> list[Any]:
    new = [cure(item) for item in items]
    return items if all(one is other for one, other in zip(items, new, strict=True)) else new
