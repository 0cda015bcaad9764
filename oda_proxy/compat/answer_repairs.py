"""Repairs of a whole answer to `run_analysis`: its products, its job, and why it failed."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec.json_spans import JsonMember, json_members
from oda_proxy.codec.json_steps import compact
from oda_proxy.compat.failure_answers import NO_JOB, failure_body
from oda_proxy.compat.generations import VERSION_DEPENDENT
from oda_proxy.compat.generations import adapted as adapted_member
from oda_proxy.compat.json_changes import same_if_equal, with_members
from oda_proxy.compat.repairs import repaired_member, repaired_value

if TYPE_CHECKING:
    from oda_proxy.query.query import Envelope

FAILED: Final = 400
"""The first HTTP status of a failure."""
_MESSAGES: Final = ("message", "error_message", "debug_message", "comment", "warning")
"""Members of `exit_status` that clients require as text."""


def repaired(body: bytes, status: int, envelope: Envelope) -> bytes:
    """Repair an answer to `run_analysis` for a client: the same bytes if there is nothing to repair.

    `status` is its HTTP status: a failure that is not JSON is replaced by one that is.
    """
    try:
        text, top, products = _parsed(body)
    except (ValueError, RecursionError):
        return _encoded(failure_body(_reason_from_text(body, status), envelope)) if status >= FAILED else body
    others = {member.name: repaired_value(member.value) for member in top if member.name != "products"}
    if status < FAILED and "query_status" not in others:
        return body
    new = {member.name: repaired_member(member.name, member.value) for member in products}
    others = _completed(others, status, envelope)
    others.pop("products", None)
    return _rewritten(text, top, others, products, new)


def adapted(body: bytes, version: str | None) -> bytes:
    """Return a repaired answer in the form that a client of this `oda_api_version` reads (`generations`)."""
    if not any(name.encode() in body for name in VERSION_DEPENDENT):
        return body
    try:
        text, top, products = _parsed(body)
    except (ValueError, RecursionError):
        return body
    others = {member.name: member.value for member in top if member.name != "products"}
    new = {member.name: adapted_member(member.name, member.value, version) for member in products}
    return _rewritten(text, top, others, products, new)


def with_job_id(body: bytes, job_id: str) -> bytes:
    """Return an answer with the job_id that its client has: clients since 1.1.46 fail if it changes."""
    try:
        text, top, products = _parsed(body)
    except (ValueError, RecursionError):
        return body
    others = {member.name: member.value for member in top if member.name != "products"}
    if isinstance(others.get("job_monitor"), dict):
        others["job_monitor"] = with_members(others["job_monitor"], job_id=job_id)
    new = {member.name: job_id if member.name == "job_id" else member.value for member in products}
    return _rewritten(text, top, others, products, new)


def without_configuration(body: bytes) -> bytes:
    """Return a failure without the dispatcher's configuration, which contains folders and addresses."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(answer, dict) or "config" not in answer:
        return body
    return _encoded({name: value for name, value in answer.items() if name != "config"})


def _parsed(body: bytes) -> tuple[str, list[JsonMember], list[JsonMember]]:
    """Parse an answer into its text, its members, and those of its products; raises like `json_members`."""
    text = body.decode("utf-8")
    top = list(json_members(text))
    begins = [member.begin for member in top if member.name == "products" and isinstance(member.value, dict)]
    return text, top, [member for begin in begins for member in json_members(text, begin)]


def _rewritten(
    text: str, top: list[JsonMember], others: dict[str, Any], products: list[JsonMember], new: dict[str, Any]
) -> bytes:
    """Return an answer with new members, unchanged parts copied: `others` beside `products`, and `new` within them."""
    before = {member.name: member.value for member in top}
    has_products = isinstance(before.get("products"), dict)
    same_products = has_products and all(new[member.name] is member.value for member in products)
    same_names = others.keys() | {"products"} == before.keys()
    if same_products and same_names and all(others[name] is before[name] for name in others):
        return text.encode("utf-8")
    parts = []
    for member in top:
        if member.name == "products" and not same_products:
            inner = (_member_text(text, product, new[product.name]) for product in products)
            parts.append(f'"products":{{{",".join(inner)}}}')
        elif member.name == "products":
            parts.append(_member_text(text, member, member.value))
        elif member.name in others:
            parts.append(_member_text(text, member, others[member.name]))
    if "products" not in before:
        parts.append('"products":{}')
    parts += [f"{json.dumps(name)}:{compact(value)}" for name, value in others.items() if name not in before]
    return f"{{{','.join(parts)}}}\n".encode()


def _member_text(text: str, member: JsonMember, value: Any) -> str:
    raw = text[member.begin : member.end] if value is member.value else compact(value)
    return f"{json.dumps(member.name)}:{raw}"


def _encoded(answer: dict[str, Any]) -> bytes:
    return f"{compact(answer)}\n".encode()


def _completed(answer: dict[str, Any], status: int, envelope: Envelope) -> dict[str, Any]:
    """Add the members without which some client fails with an error of its own, or polls for ever."""
    if status < FAILED and answer.get("query_status") != "failed":
        return with_members(answer, **_completed_job(answer, envelope))
    answer = {name: value for name, value in answer.items() if name != "config"}
    full = failure_body(_failure_reason(answer, status), envelope)
    if status < FAILED:
        del full["error"], full["error_message"]
    exit_status = answer.get("exit_status")
    exit_status = exit_status if isinstance(exit_status, dict) else {}
    filled = {name: value for name, value in exit_status.items() if value not in (None, "") and name != "status"}
    full["exit_status"] = same_if_equal(
        exit_status, {**full["exit_status"], **exit_status, **filled, "message": full["exit_status"]["message"]}
    )
    if full["exit_status"].get("status") in (0, None):
        full["exit_status"] = {**full["exit_status"], "status": 1}
    present = {name: value for name, value in answer.items() if value is not None and name != "exit_status"}
    return {**full, **present, **_completed_job({**full, **present}, envelope), "exit_status": full["exit_status"]}


def _completed_job(answer: dict[str, Any], envelope: Envelope) -> dict[str, Any]:
    """Return the completed `job_monitor` and `exit_status` of an answer."""
    new: dict[str, Any] = {}
    monitor, exit_status = answer.get("job_monitor"), answer.get("exit_status")
    if not isinstance(monitor, dict):
        monitor = {}
    job_id = monitor.get("job_id")
    if job_id is None:
        job_id = envelope.job_id or NO_JOB
    session_id = monitor.get("session_id")
    if session_id is None:
        session_id = answer.get("session_id") or envelope.session_id
    state = monitor.get("status", answer.get("query_status"))
    new["job_monitor"] = with_members(monitor, job_id=str(job_id), session_id=session_id, status=state)
    if isinstance(exit_status, dict):
        empty = {name: "" for name in _MESSAGES if exit_status.get(name) is None}
        new["exit_status"] = with_members(exit_status, **empty)
    return new


def _failure_reason(answer: dict[str, Any], status: int) -> str:
    """Return why a job failed; clients show `exit_status.message`."""
    exit_status = answer.get("exit_status")
    reasons = [exit_status.get("message"), exit_status.get("error_message")] if isinstance(exit_status, dict) else []
    reasons += [answer.get("error_message"), answer.get("error"), answer.get("message")]
    monitor = answer.get("job_monitor")
    report = monitor.get("full_report_dict") if isinstance(monitor, dict) else None
    if isinstance(report, dict):
        reasons.append(
            ": ".join(["the job failed", *(str(report[name]) for name in ("node", "message") if report.get(name))])
        )
    reasons.append(
        "the job failed; the dispatcher gave no reason" if status < FAILED else f"the dispatcher answered {status}"
    )
    return next(reason for reason in reasons if isinstance(reason, str) and reason)


def _reason_from_text(body: bytes, status: int) -> str:
    """Return the text of a failure that is not JSON, in one line."""
    text = re.sub(r"(?s)<(style|script|title)\b.*?</\1>|<[^>]*>", " ", body[:20_000].decode("utf-8", "replace"))
    words = " ".join(html.unescape(text).split())[:500]
    return f"the dispatcher answered {status}: {words}" if words else f"the dispatcher answered {status}"
