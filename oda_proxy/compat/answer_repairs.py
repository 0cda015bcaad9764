"""Repairs of a whole answer to `run_analysis`: its products, its job, and why it failed."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec import json_steps
from oda_proxy.codec.json_steps import compact
from oda_proxy.compat import screening
from oda_proxy.compat.answer_walk import AnswerWalk
from oda_proxy.compat.answer_writer import AnswerWriter, compact_pieces
from oda_proxy.compat.failure_answers import NO_JOB, failure_body
from oda_proxy.compat.generations import VERSION_DEPENDENT
from oda_proxy.compat.generations import adapted as adapted_member
from oda_proxy.compat.json_changes import same_if_equal, with_members
from oda_proxy.compat.parsed_answer import PRODUCTS, parse_answer
from oda_proxy.compat.program_address import API_CODE
from oda_proxy.compat.program_address import with_address as member_with_address
from oda_proxy.compat.repairs import repaired_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oda_proxy.codec.json_reader import JsonMember
    from oda_proxy.compat.answer_walk import MemberObserver
    from oda_proxy.compat.parsed_answer import ParsedAnswer
    from oda_proxy.query.query import Envelope

FAILED: Final = 400
"""The first HTTP status of a failure."""
_MESSAGES: Final = ("message", "error_message", "debug_message", "comment", "warning")
"""Members of `exit_status` that clients require as text."""


@dataclass(frozen=True, slots=True)
class RepairedAnswer:
    """The result of repairing an answer."""

    is_changed: bool
    """Whether it was written."""
    forbidden: tuple[str, ...] = ()
    """Names that its products would load in a client and that are not on the allow-list, sorted."""


def repaired(body: bytes, status: int, envelope: Envelope) -> bytes:
    """Repair an answer to `run_analysis` for a client: the same bytes if there is nothing to repair.

    `status` is its HTTP status: a failure that is not JSON is replaced by one that is.
    """
    pieces: list[bytes] = []
    result = repair_body(body, status, envelope, pieces.append)
    return b"".join(pieces) if result.is_changed else body


def repair_body(
    body: bytes,
    status: int,
    envelope: Envelope,
    write: Callable[[bytes], None],
    observer: MemberObserver | None = None,
    *,
    base_url: str = "",
) -> RepairedAnswer:
    """Repair and screen an answer, as `repaired` and `repair_answer`."""
    try:
        parsed = parse_answer(body)
    except (ValueError, RecursionError):
        if status < FAILED:
            return RepairedAnswer(is_changed=False, forbidden=_forbidden_names(body))
        write(_encoded(failure_body(_reason_from_text(body, status), envelope)))
        return RepairedAnswer(is_changed=True)
    del body
    return repair_answer(parsed, status, envelope, write, observer, base_url=base_url)


def repair_answer(
    parsed: ParsedAnswer,
    status: int,
    envelope: Envelope,
    write: Callable[[bytes], None],
    observer: MemberObserver | None = None,
    *,
    base_url: str = "",
) -> RepairedAnswer:
    """Repair and screen an answer; one that changes is written in pieces.

    It can be used no more afterwards: its products are released one by one. The `observer` sees those of a success.
    The program in it has `base_url`, the address of the proxy for the client, unless that is empty.
    """
    others = {member.name: repaired_value(member.value) for member in parsed.members if member.name != PRODUCTS}
    if status < FAILED and "query_status" not in others:
        return RepairedAnswer(is_changed=False, forbidden=_forbidden_names(b"".join(parsed.text(0, parsed.size))))
    others = _completed(others, status, envelope)
    others.pop(PRODUCTS, None)
    walk = AnswerWalk(parsed, AnswerWriter(parsed.text, write), None if status >= FAILED else observer, base_url)
    walk.repair(others)
    return RepairedAnswer(walk.writer.is_changed, tuple(sorted(walk.forbidden)))


def _forbidden_names(body: bytes) -> tuple[str, ...]:
    """Return the forbidden names in the products of an answer that has repeated names, or another encoding."""
    try:
        answer = json_steps.loads(body)
    except (ValueError, RecursionError):
        return ()
    return screening.forbidden_names(answer.get(PRODUCTS)) if isinstance(answer, dict) else ()


def adapted(body: bytes, version: str | None) -> bytes:
    """Return a repaired answer in the form that a client of this `oda_api_version` reads (`generations`)."""
    if not any(name.encode() in body for name in VERSION_DEPENDENT):
        return body
    return _with_changes(body, lambda _, value: value, lambda name, value: adapted_member(name, value, version))


def with_job_id(body: bytes, job_id: str) -> bytes:
    """Return an answer with the job_id that its client has: clients since 1.1.46 fail if it changes."""

    def change_member(name: str, value: Any) -> Any:
        return with_members(value, job_id=job_id) if name == "job_monitor" and isinstance(value, dict) else value

    return _with_changes(body, change_member, lambda name, value: job_id if name == "job_id" else value)


def with_address(body: bytes, base_url: str) -> bytes:
    """Return an answer whose program has the address of the proxy for its client."""
    if API_CODE.encode() not in body:
        return body
    return _with_changes(body, lambda _, value: value, lambda name, value: member_with_address(name, value, base_url))


def _with_changes(
    body: bytes, change_member: Callable[[str, Any], Any], change_product: Callable[[str, Any], Any]
) -> bytes:
    """Return an answer with its members, and those of `products`, changed by name and value; others keep their text."""
    try:
        parsed = parse_answer(body)
    except (ValueError, RecursionError):
        return body
    pieces: list[bytes] = []
    writer = AnswerWriter(parsed.text, pieces.append)
    separator = "{"
    for member in parsed.members:
        writer.punctuation(separator)
        writer.name(member.name)
        separator = ","
        if member.name == PRODUCTS and parsed.has_products:
            _write_members(writer, parsed.products, change_product)
        else:
            _write_member(writer, member, change_member(member.name, member.value))
    writer.punctuation("}\n")
    return b"".join(pieces) if writer.is_changed else body


def _write_members(writer: AnswerWriter, members: Sequence[JsonMember], change: Callable[[str, Any], Any]) -> None:
    separator = "{"
    for member in members:
        writer.punctuation(separator)
        writer.name(member.name)
        separator = ","
        _write_member(writer, member, change(member.name, member.value))
    writer.punctuation("}" if members else "{}")


def _write_member(writer: AnswerWriter, member: JsonMember, value: Any) -> None:
    if value is member.value:
        writer.unchanged(member.begin, member.end)
    else:
        writer.changed(list(compact_pieces(value)))


def without_configuration(body: bytes) -> bytes:
    """Return a failure without the dispatcher's configuration, which contains folders and addresses."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(answer, dict) or "config" not in answer:
        return body
    return _encoded({name: value for name, value in answer.items() if name != "config"})


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
