"""The differences of the mock's other dummy instruments from those of dispatcher 1.3.3, with their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.mock_requests_of_instruments import OTHERS, named

if TYPE_CHECKING:
    from collections.abc import Iterable


def _of(instruments: Iterable[str], *names: str) -> tuple[str, ...]:
    return tuple(named(name, instrument) for instrument in instruments for name in names)


_ALL = ("empty", *OTHERS)
_SESSIONS = (
    *("session of one letter", "session with dots", "session with blanks", "session is long"),
    *("session with letters beyond ASCII", "session is new", "session is empty", "without session"),
)

OF_INSTRUMENTS: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {
    "1.3.6 words errors for bad values of other instruments differently, too": {
        ("error_message",): (
            *_of(OTHERS, "RA is text", "RA is a list", "RA with a comma", "DEC is text", "time with a blank"),
            *_of(OTHERS, "time with blanks around", "time of day 60", "day 30 of February", "year of two digits"),
            *_of(OTHERS, "T1 is text", "T1 is empty", "T1 is a number", "times in MJD as text"),
            *_of(OTHERS, "format of times is empty"),
            *_of(_ALL, "'many' W"),
        ),
    },
    "1.3.6 accepts angles of Python's float() for other instruments, too": {
        ("status",): _of(OTHERS, "RA in hours", "RA in degrees", "RA is nan", "RA is inf", "RA with underscores"),
    },
    "1.3.6 reads a NUL as null for other instruments, too": {
        ("error_message",): _of(OTHERS, "RA is NUL", "T1 is NUL", "format of times is NUL"),
        ("status",): _of(OTHERS, "source is NUL"),
    },
    "an empty number is null for 1.3.6; for 1.3.3 it is the default of RA, and crashes the plugin as p": {
        ("products.analysis_parameters.RA",): _of(OTHERS, "RA is empty"),
        ("status",): _of(("empty",), "'' W"),
        ("exit_status.error_message", "exit_status.message", "exit_status.status", "job_status"): _of(OTHERS, "'' W"),
    },
    "1.3.6 ignores arguments that only another instrument has, and names them in a comment": {
        (
            "exit_status.comment",
            "job_monitor.job_id",
            "products.analysis_parameters.p_list",
            "products.job_id",
        ): (
            *_of(OTHERS, "list", "list in another order", "list of one", "list of numbers", "list is empty"),
            *_of(OTHERS, "list is NUL", "list with blanks", "list with blanks after commas"),
            *_of(OTHERS, "list with a comma at its end", "list as JSON", "list as JSON with blanks"),
            *_of(OTHERS, "list as JSON is empty", "list as JSON object", "list as JSON is cut off"),
            *_of(OTHERS, "list as JSON of numbers", "list repeated"),
        ),
        ("exit_status.comment", "job_monitor.job_id", "products.analysis_parameters.sb", "products.job_id"): (
            _of(OTHERS, "all numbers")
        ),
    },
    "1.3.3 shows the session of the request for a job that is done, with an empty list of reports": {
        ("job_monitor.full_report_dict_list",): _of(("empty-async",), *_SESSIONS),
        ("job_monitor.session_id",): _of(("empty-semi-async",), *_SESSIONS),
    },
    "1.3.3 crashes on sessions of other instruments that are not folder names, too": {
        ("status",): _of(OTHERS, "session with a slash", "session is NUL"),
    },
    "the mock pickles arrays of all instruments in the form that every release of the client reads": {
        ("products.numpy_data_product_list",): (
            _of(_ALL, "'-1' W", "'0' W", "'3.9' W", "'4' W", "'10' W", "'50' W", "'nan' W")
        ),
    },
    "1.3.3, as installed for the tests, fails when it writes a mail": {
        ("status",): _of(("empty-async",), "real data"),
    },
}
"""What differs if the mock has its own dummy instruments, in addition to the differences of `empty`."""
