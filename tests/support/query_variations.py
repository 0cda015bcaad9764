"""Ten queries, and different spellings of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from random import Random

Fields = list[tuple[str, str]]

DEFAULTS: Final = {
    "RA": "265.97845833",
    "DEC": "-29.74516667",
    "T1": "2017-03-06T13:26:48.000",
    "T2": "2017-03-06T15:32:27.000",
    "src_name": "1E 1740.7-2942",
}
"""The defaults of the dummy instrument."""

QUERIES: Final[tuple[dict[str, str], ...]] = (
    {"product_type": "dummy"},
    {"product_type": "dummy", "RA": "83.63", "DEC": "22.0145"},
    {"product_type": "dummy", "T1": "2003-03-15T23:27:40.000", "T2": "2003-03-16T00:03:15.000"},
    {"product_type": "dummy", "RA": "83.63333333333331", "DEC": "-5.5", "src_name": "Crab"},
    {"product_type": "dummy", "scw_list": "010200230010.001,010200230020.001", "RA": "255.986542"},
    {"product_type": "parametrical", "sb": "25"},
    {"product_type": "parametrical", "T1": "2005-01-01T00:00:00.000", "T2": "2005-01-02T12:00:00.000", "sb": "0.5"},
    {"product_type": "echo", "ang": "2", "ang_deg": "0.5", "energ": "3"},
    {"product_type": "dummy", "p_list": "b,a", "DEC": "-29.74516667"},
    {"product_type": "echo", "ang": "0.25", "ang_deg": "12", "energ": "0.1", "src_name": "Cyg X-1", "sb": "7"},
)
"""Parameters in addition to those of every request."""

COMMON_ARGUMENTS: Final = {"instrument": "empty", "query_type": "Dummy", "query_status": "new"}

ANGLES: Final = frozenset({"RA", "DEC", "ang", "ang_deg"})
NUMBERS: Final = ANGLES | {"sb", "energ"}


@dataclass(frozen=True)
class Variation:
    """One spelling: the query string, the form if there is one, and the changes."""

    query_string: str
    form: bytes | None
    changes: tuple[str, ...]


def vary(query: dict[str, str], chance: Random) -> Variation:
    """Return another spelling of a query, or, now and then, another query."""
    arguments = {**query}
    done = []
    for rewrite in (_left_out_or_written_out, _rewritten_numbers, _rewritten_times, _rewritten_texts, _rewritten_lists):
        if chance.random() < 0.6:
            done += rewrite(arguments, chance)
    if chance.random() < 0.1:
        done += _another(arguments, chance)
    fields = [*COMMON_ARGUMENTS.items(), ("api", chance.choice(["True", "1"])), *_split_lists(arguments, chance)]
    client = chance.choice([_sent_by_1_0, _sent_by_1_3_5, _sent_by_hand])
    fields += [(name, value) for name, value in client(chance) if name not in arguments]
    chance.shuffle(fields)
    at = chance.choice([len(fields), len(fields), 0, chance.randrange(len(fields))])
    form = urlencode(fields[at:]).encode() if at < len(fields) else None
    return Variation(urlencode(fields[:at]), form, tuple(done))


def _left_out_or_written_out(arguments: dict[str, str], chance: Random) -> list[str]:
    names = chance.sample(sorted(DEFAULTS), 2)
    for name in names:
        arguments.setdefault(name, DEFAULTS[name])
    dropped = [name for name, default in DEFAULTS.items() if arguments.get(name) == default and chance.random() < 0.3]
    for name in dropped:
        del arguments[name]
    return [f"defaults of {', '.join(names)} written out", *(f"default of {name} left out" for name in dropped)]


def _rewritten_numbers(arguments: dict[str, str], chance: Random) -> list[str]:
    done = []
    for name in sorted(NUMBERS & arguments.keys()):
        ways = _spellings(name, arguments[name])
        if chance.random() < 0.01 and "." in arguments[name]:
            ways = {"more digits than a float has": f"{arguments[name]}{'0' * 20}1"}
        way = chance.choice(sorted(ways))
        arguments[name] = ways[way]
        done.append(f"{name}: {way}")
    return done


def _spellings(name: str, number: str) -> dict[str, str]:
    """Return spellings of a number; angles, which astropy parses, need a point before an exponent."""
    with_point = number if "." in number else f"{number}."
    ways = {
        "zeros": f"{with_point}000",
        "exponent": f"{with_point}e0",
        "blanks": f" {number} ",
        "plus": number if number.startswith("-") else f"+{number}",
        "float": repr(float(number)),
    }
    if name in ANGLES:
        ways["letter"] = f"{number}s" if name == "ang" else f"{number}d"
    else:
        whole, _, fraction = number.partition(".")
        ways["point moved"] = f"{whole}{fraction}e-{len(fraction)}"
    if number == "83.63333333333331":
        ways["hours"] = "05h34m32s"
    return ways


def _rewritten_times(arguments: dict[str, str], chance: Random) -> list[str]:
    if not {"T1", "T2"} <= arguments.keys():
        return []
    from astropy.time import Time

    time_format = chance.choice(["mjd", "jd", "iso", "isot", "yday", "unix", "fits"])
    for name in ("T1", "T2"):
        moment = Time(arguments[name], format="isot")
        arguments[name] = str(getattr(moment, time_format))
        if time_format in {"iso", "isot"} and arguments[name].endswith(".000") and chance.random() < 0.5:
            arguments[name] = arguments[name][:-4]
    arguments["T_format"] = time_format
    return [f"times as {time_format}"]


def _rewritten_texts(arguments: dict[str, str], chance: Random) -> list[str]:
    if "src_name" not in arguments:
        return []
    arguments["src_name"] = f"{' ' * chance.randrange(3)}{arguments['src_name']} "
    return ["blanks around text"]


def _rewritten_lists(arguments: dict[str, str], chance: Random) -> list[str]:
    if "scw_list" not in arguments:
        return []
    arguments["use_scws"] = "form_list"
    return ["a hint of the web form"]


def _split_lists(arguments: dict[str, str], chance: Random) -> Fields:
    """Return the fields; a list of science windows is one text or repeated values."""
    fields = []
    for name, value in arguments.items():
        repeated = name == "scw_list" and chance.random() < 0.5
        fields += [(name, one) for one in (value.split(",") if repeated else [value])]
    return fields


def _another(arguments: dict[str, str], chance: Random) -> list[str]:
    """Change a query to a similar one."""
    changes: list[dict[str, str]] = [
        {"RA": "38.63"},
        {"RA": "83.631"},
        {"DEC": "22.0146"},
        {"src_name": "1E 1740.7-2943"},
        {"src_name": "crab"},
        {"scw_list": "010200230020.001,010200230010.001"},
        {"p_list": "a,b"},
        {"unknown": "1"},
        {"run_asynch": "False"},
        {"dry_run": "True"},
        {"sb": "52"},
        {"RA": "", "DEC": "0"},
        {"DEC": "-0.0"},
    ]
    change = chance.choice(changes)
    arguments |= change
    return [f"another query: {change}"]


def _session(chance: Random) -> str:
    return "".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=16))


def _sent_by_1_0(chance: Random) -> Fields:
    return [("off_line", "False"), ("verbose", "False"), ("session_id", _session(chance)), ("dry_run", "False")]


def _sent_by_1_3_5(chance: Random) -> Fields:
    return [("off_line", "False"), ("session_id", _session(chance)), ("oda_api_version", "1.3.5")]


def _sent_by_hand(chance: Random) -> Fields:
    return []
