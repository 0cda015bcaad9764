"""Canonical forms of the values in a request: equal for equal values, different for different ones.

Each function takes the text of a value and returns its canonical text, or None where it is no such value. Nothing is
rounded that the dispatcher does not round: numbers are exact decimals and never floats; times are rounded to the
millisecond, as the dispatcher does before it computes.
"""

from __future__ import annotations

import json
import re
import threading
import warnings
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONGEST: Final = 1000
"""Longest number, time or angle that is read, in characters."""

LARGEST_JSON: Final = 8 * 1024 * 1024
"""Longest JSON text that is read, in characters: the longest known catalogue has some tens of thousands."""

TIME_FORMATS: Final = frozenset(
    {"byear", "byear_str", "cxcsec", "decimalyear", "fits", "galexsec", "gps", "iso", "isot", "jd", "jyear"}
    | {"jyear_str", "mjd", "unix", "unix_tai", "yday"}
)
"""Time formats of astropy that are written as one text or number."""

_TRUE: Final = frozenset({"True", "true", "yes", "1"})
_FALSE: Final = frozenset({"False", "false", "no", "0"})

_ISO: Final = re.compile(
    r"([1-9]\d{3})-(\d{2})-(\d{2})(?P<between>[T ])(\d{2}):(\d{2}):(\d{2})(?:\.(?P<fraction>\d{0,3}))?", re.ASCII
)
_SEPARATORS: Final = {"isot": "T", "iso": " "}

_ANGLE: Final = re.compile("[-+]?\\s*\\d[-+\\d.\\s:dhmsourega°'\"\N{PRIME}\N{DOUBLE PRIME}]*", re.ASCII)
"""What may be degrees or hours with minutes and seconds; astropy decides."""

_PLAIN_NAMES: Final = re.compile(r"[^\s'\"\[\]{}\\]*")
"""Lists of names without any characters at which dispatchers are known to split in odd ways."""

_POWERS: Final = {"eV": 0, "keV": 3, "MeV": 6, "GeV": 9, "TeV": 12}
"""Units that differ by powers of ten."""

_ASTROPY = threading.Lock()
"""Held while astropy reads: its warnings are silenced, which Python does for all threads at once."""


def number(text: str) -> str | None:
    """Return a number that Python's `float` reads, as an exact decimal; `nan`, `inf` and `-0` stay distinct.

    Two texts have one form only if they are the same number, however many digits they have.
    """
    text = text.strip()
    if len(text) > LONGEST or not text.isascii():
        return None
    try:
        float(text)  # Decimal would read more, such as signalling NaNs
        value = Decimal(text)
    except (ValueError, ArithmeticError):
        return None
    if not value.is_finite():
        return str(float(text))
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - what is finite has one
    plain = "".join(map(str, digits)).lstrip("0")
    if not plain:
        return "-0" if sign else "0"
    short = plain.rstrip("0")
    exponent += len(plain) - len(short)
    if 0 < exponent <= _ZEROS_WRITTEN:
        short, exponent = short + "0" * exponent, 0
    return str(Decimal((sign, tuple(map(int, short)), exponent)))


_ZEROS_WRITTEN: Final = 20
"""Trailing zeros of a whole number up to which it is written without an exponent."""


def in_unit(value: str, unit: str, wanted: str) -> str | None:
    """Convert a canonical number to the unit `wanted`; None where that is not exact.

    The dispatcher converts with floats. The conversion counts as exact only if its result is the float nearest to ours:
    otherwise a converted value and one sent in the other unit would be one value here and two for the dispatcher.
    """
    if unit == wanted:
        return value
    if unit not in _POWERS or wanted not in _POWERS:
        return None
    shift = _POWERS[unit] - _POWERS[wanted]
    mantissa, _, exponent = value.partition("E")
    converted = number(f"{mantissa}E{int(exponent or 0) + shift}")
    if converted is None or float(value) * 10.0**shift != float(converted):
        return None
    return converted


def angle(text: str, unit: str) -> str | None:
    """Return an angle as a number of `unit`; it may be written with minutes and seconds, as astropy reads them.

    Angles with minutes and seconds become the float that the dispatcher, which uses astropy too, computes from them.
    """
    if (plain := number(text)) is not None:
        return plain
    if len(text) > LONGEST or not _ANGLE.fullmatch(text.strip()):
        return None

    def read() -> str:
        from astropy.coordinates import Angle  # slow to import, and seldom needed

        return repr(float(Angle(text, unit=unit).to_value(unit)))

    return None if (degrees := _by_astropy(read)) is None else number(degrees)


def time(text: str, time_format: str) -> str | None:
    """Return a time as ISO with a `T` and milliseconds, as the dispatcher does; `time_format` is a name of astropy."""
    match = _ISO.fullmatch(text) if len(text) <= LONGEST else None
    if match and match["between"] == _SEPARATORS.get(time_format) and _is_moment(text[:19]):
        return f"{text[:10]}T{text[11:19]}.{match['fraction'] or '':0<3}"
    if time_format not in TIME_FORMATS or len(text) > LONGEST:
        return None

    def read() -> str:
        from astropy.utils import iers  # slow to import

        iers.conf.auto_download = False  # reading a request must not use the network
        from astropy.time import Time

        return str(Time(text, format=time_format).isot)

    return _by_astropy(read)


def _is_moment(text: str) -> bool:
    """Return whether a text is a valid time; leap seconds, and UTC before 1973, are left to astropy."""
    if text < "1973":
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _by_astropy(read: Callable[[], str]) -> str | None:
    """Call a function that uses astropy; None where it raises."""
    with _ASTROPY, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except Exception:  # noqa: BLE001 - whatever it raises, the text is no such value
            return None


def boolean(text: str) -> str | None:
    """Return `true` or `false`."""
    text = text.strip()
    return "true" if text in _TRUE else "false" if text in _FALSE else None


def names(values: Sequence[str]) -> tuple[str, ...] | None:
    """Read a list that was sent as repeated values or as one text with commas, in its order."""
    if not all(_PLAIN_NAMES.fullmatch(value) for value in values):
        return None
    if len(values) > 1:
        return tuple(values)
    return tuple(values[0].split(",")) if values[0] else ()


def json_names(text: str) -> tuple[str, ...] | None:
    """Read a list that was sent as a JSON list of text."""
    try:
        read = json.loads(text) if len(text) <= LARGEST_JSON and text.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return None
    return tuple(read) if isinstance(read, list) and all(isinstance(name, str) for name in read) else None


def json_form(text: str, *, with_constants: bool = True) -> str | None:
    """Return a JSON list or object in one spelling: spacing and the order of names do not matter, values do.

    Integers and floats stay distinct, as the types of a catalogue's columns do, and no digit is lost. An object in
    which a name comes twice has no canonical form: parsers do not agree on which value counts. NaN and infinities stay
    what they are, or become null without `with_constants`.
    """
    if len(text) > LARGEST_JSON or not text.lstrip().startswith(("[", "{")):
        return None
    try:
        read = json.loads(
            text,
            parse_float=_float,
            parse_int=_Literal,
            object_pairs_hook=_object,
            parse_constant=_Literal if with_constants else lambda _: None,
        )
        return _written(read)
    except (ValueError, RecursionError):
        return None


class _Literal(str):
    """The text of a number."""

    __slots__ = ()


def _float(text: str) -> _Literal:
    written = number(text)
    if written is None:
        raise ValueError(text)
    return _Literal(written if "." in written or "E" in written else f"{written}.0")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name comes twice")
    return read


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_written(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return str(value) if isinstance(value, _Literal) else json.dumps(value)
