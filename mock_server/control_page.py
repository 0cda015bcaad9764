"""The page at `/-/` with which people control a mock; it works without scripts."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, get_args

from mock_server.control import ControlError
from mock_server.scenarios import FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

    from mock_server.control import Control

STYLE_SHEET: Final = "pages.css"
HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # without one, browsers send no Origin with a form
    "X-Content-Type-Options": "nosniff",
}
_SHOWN_JOBS: Final = 50
_SHOWN_REQUESTS: Final = 100
_NEXT: Final = {"submitted": "progress", "progress": "ready", "failed": "submitted"}
_SUMMARY: Final = ("instrument", "product_type", "query_status")
_SWITCHES: Final = {"true": True, "false": False}
# What the page needs beside the style sheet that it shares with the pages of the proxy.
_STYLE: Final = """
.mock .row { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; margin-bottom: 0.5rem; }
.mock .row input[name=message] { flex: 1 1 14rem; width: auto; max-width: 26rem; }
.mock .card { border-bottom: 1px solid var(--line); padding: 0.6rem 0; overflow-wrap: anywhere; }
.mock .card p { margin-bottom: 0.4rem; }
.mock .card small { margin-left: 0.6rem; }
.mock .flag.failed { color: var(--bad); border-color: currentcolor; }
.mock .flag.ready, .mock .flag.done { color: var(--good); border-color: currentcolor; }
.mock .flag.progress { color: var(--accent); border-color: currentcolor; }
.mock .list td, .mock .list th { vertical-align: top; }
.mock details > summary { overflow-wrap: anywhere; }
@media (max-width: 44rem) { .mock .list thead { display: none; } }
"""


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not before the page is requested

    environment = Environment(
        loader=PackageLoader("mock_server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("control.html")


@cache
def style_sheet() -> str:
    """Return the style sheet of the page: that of the pages of the proxy, and what only this one needs."""
    return (files("oda_proxy.pages") / "static" / "pages.css").read_text(encoding="utf-8") + _STYLE


def control_page(control: Control, instruments: list[str], *, root: str = "", problem: str = "") -> str:
    """Return the page: jobs and requests with the newest first, and faults.

    `root` is the relative path to `/-/`; `problem` says why a form was refused.
    """
    listed = control.list_jobs()
    jobs = [{**job, "next": _NEXT.get(job["state"])} for job in reversed(listed["jobs"])]
    logged = control.list_requests()
    requests = [{**one, "summary": _summary(one["arguments"])} for one in reversed(logged["requests"])]
    faults = control.list_faults()["faults"]
    return _template().render(
        root=root,
        problem=problem,
        instruments=instruments,
        hold=listed["hold"],
        jobs=jobs,
        shown_jobs=jobs[:_SHOWN_JOBS],
        faults=[
            {**one, "text": ", ".join(f"{name} = {_text(value)}" for name, value in one["fault"].items())}
            for one in faults
        ],
        kinds=get_args(FaultKind),
        requests=requests[:_SHOWN_REQUESTS],
        count=logged["dropped"] + len(requests),
    )


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _summary(arguments: Mapping[str, str]) -> str:
    named = " ".join(arguments[name] for name in _SUMMARY if arguments.get(name))
    return named or f"{len(arguments)} arguments"


def body_of_form(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON object that a form of the page stands for; empty fields are left out, an empty state is null.

    Raises ControlError.
    """
    body: dict[str, Any] = {}
    for name, text in form.items():
        if name == "state":
            body[name] = text or None
        elif name == "message":
            body[name] = text
        elif text.strip():
            body[name] = _value(name, text.strip())
    return body


def _value(name: str, text: str) -> Any:
    try:
        match name:
            case "hold" | "active":
                return _SWITCHES[text]
            case "status":
                return int(text)
            case "seconds":
                return float(text)
            case "on":
                return [int(word) for word in text.replace(",", " ").split()]
            case "asked":
                return text.replace(",", " ").split()
    except (ValueError, KeyError):
        raise ControlError(f"{name} cannot be {text[:40]!r}") from None
    return text
