"""Reads a query's list of science windows from a field or a file (protocol: dispatcher 1.3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "user_scw_list_file"
_FIELD: Final = "scw_list"
_MISSING: Final = "was expected to be passed, but it has not been found, please check the inputs"
_BLANKS: Final = (
    "a space separated science windows list is an unsupported format, please provide it as a comme separated list"
)
_IN_FILE: Final = "Error while setting input scw_list file : "
_UNREADABLE: Final = f"Error while setting input scw_list file , content of the temporary directory is ['{FILE}']"
_NOT_ANNOUNCED: Final = "despite use_scws was indicating this was not provided, please check the inputs"


class ScwListError(BadQueryError):
    """Field, file and `use_scws` contradict each other; the message is the dispatcher's."""


def with_scw_list(arguments: Mapping[str, Any], files: Mapping[str, bytes], name: str = _FIELD) -> dict[str, Any]:
    """Return the arguments of a request with the list of its file as the argument `name` of its instrument.

    Raises
    ------
    ScwListError
        The source in `use_scws` is missing, or another one is present.
    """
    announced = arguments.get("use_scws")
    has_field, has_file = bool(arguments.get(_FIELD)), FILE in files
    if has_field and announced in ("no", "user_file"):
        raise ScwListError(f"scw_list parameter was found {_NOT_ANNOUNCED}")
    if not has_field and announced == "form_list":
        raise ScwListError(f"scw_list parameter {_MISSING}")
    if has_file and announced != "user_file":
        raise ScwListError(f"scw_list file was found {_NOT_ANNOUNCED}")
    if not has_file and announced == "user_file":
        raise ScwListError(f"scw_list file {_MISSING}")
    if not has_file:
        field = arguments.get(_FIELD)
        if isinstance(field, str) and " " in field.strip():
            raise ScwListError(_BLANKS)
        return dict(arguments)
    lines = files[FILE].decode(errors="replace").splitlines()
    if not lines:
        raise ScwListError(_UNREADABLE)
    if any(len(line.split()) > 1 for line in lines):
        raise ScwListError(f"{_IN_FILE}{_BLANKS}")
    return {**arguments, name: [word.strip() for line in lines for word in line.split(",")]}
