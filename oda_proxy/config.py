"""Options, from the command line, the environment and a file: the only reader of the environment.

A flag counts before `ODA_PROXY_<OPTION>`, that before a key in `oda-proxy.toml`, that before the default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.store.freshness import Rule

PRODUCTION = "https://www.astro.unige.ch/mmoda/dispatch-data"
FILE = "oda-proxy.toml"
LARGEST_FILE = 1024 * 1024
"""Bytes of a configuration file."""


def _text(value: str) -> str:
    return value


def _folder(value: str) -> Path:
    if not value:
        raise ValueError(value)
    return Path(value)


def _route(value: str) -> str:
    from oda_proxy.http.routes import CLOSED_ROUTES  # not needed where no route is opened

    if value not in CLOSED_ROUTES:
        raise ValueError(value)
    return value


def _switch(value: str) -> bool:
    if value.casefold() not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
        raise ValueError(value)
    return value.casefold() in {"1", "true", "yes", "on"}


def _port(value: str) -> int:
    port = int(value)
    if not 0 <= port < 2**16:
        raise ValueError(value)
    return port


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError(value)
    return seconds


def _count(value: str) -> int:
    count = int(value)
    if count < 1:
        raise ValueError(value)
    return count


def _rate(value: str) -> float:
    rate = float(value)
    if not 0 < rate < float("inf"):
        raise ValueError(value)
    return rate


def _generation(value: str) -> str:
    if value not in {"today", "2019"}:
        raise ValueError(value)
    return value


_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def _size(value: str) -> int:
    """Read a number of bytes: `500 MB` and `500M` are 500 million, `2 GiB` is 2 * 1024**3."""
    text = value.strip().casefold().removesuffix("b")
    base = 1024 if text.endswith("i") else 1000
    text = text.removesuffix("i")
    number = text.rstrip("kmgt")
    size = float(number) * base ** _UNITS[text[len(number) :]] if text[len(number) :] in _UNITS else -1.0
    if not 1 <= size < 2**60:
        raise ValueError(value)
    return int(size)


def _sharing(value: str) -> str:
    if value not in {"subject", "roles", "team"}:
        raise ValueError(value)
    return value


def _rule(value: str) -> Rule:
    from oda_proxy.store.freshness import Rule  # not needed where there is no rule

    return Rule.parse(value)


def _address(value: str) -> str:
    from urllib.parse import urlsplit  # not needed where no address is given

    parts = urlsplit(value)
    _ = parts.port  # raises ValueError for one that cannot be
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(value)
    return value.rstrip("/")


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, how its text is read, and what a person is told of it."""

    name: str
    read: Callable[[str], Any]
    wants: str
    help: str
    default: Any = None
    many: bool = False
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """The option on a command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The option in the environment."""
        return f"ODA_PROXY_{self.name.upper().replace('-', '_')}"


_HOST = Option("host", _text, "a host", "address to listen on", "127.0.0.1", metavar="HOST")


def _port_option(default: int) -> Option:
    return Option("port", _port, "a port", "port to listen on; 0 takes a free one", default, metavar="PORT")


_FIXTURES = Option(
    "fixtures", Path, "a folder", "folder of fixtures the mock answers from; may be given again", (), True, "DIR"
)
_TIME_SCALE = Option(
    "time-scale",
    _seconds,
    "a number from 0",
    "how long the mock's jobs take: 1 as recorded, 0 no time",
    1.0,
    metavar="X",
)

_UPSTREAM = Option(
    "upstream", _address, "an http(s) address without user and query", "dispatcher to ask", PRODUCTION, metavar="URL"
)
_CACHE_DIR = Option(
    "cache-dir", _folder, "a folder", "where recordings are kept (default the user's cache)", metavar="DIR"
)
_MAX_SIZE = Option(
    "max-size",
    _size,
    "a size such as 500MB or 20GiB",
    "bytes that recordings may take on the disk",
    20_000_000_000,
    metavar="SIZE",
)

_SYNTHETIC = Option(
    "synthetic", _switch, "yes or no", "the mock makes up data for queries that it has no fixture for", False
)
_SECRET_KEY = Option("secret-key", _text, "a key", "key with which the dispatcher signs tokens", metavar="KEY")

SERVE = (
    _UPSTREAM,
    Option("mock", _switch, "yes or no", "ask a mock dispatcher started beside the proxy", False),
    _HOST,
    _port_option(8400),
    _CACHE_DIR,
    _MAX_SIZE,
    Option(
        "max-requests", _count, "a number from 1", "requests to the dispatcher under way at once", 32, metavar="NUMBER"
    ),
    Option("max-jobs", _count, "a number from 1", "jobs that the dispatcher is given at once", 16, metavar="NUMBER"),
    Option("longest-job", _rate, "a number above 0", "hours after which a job is given up", 24.0, metavar="HOURS"),
    Option("max-rate", _rate, "a number above 0", "requests to the dispatcher in a second", 20.0, metavar="NUMBER"),
    Option("offline", _switch, "yes or no", "ask nobody: what was not recorded fails at once", False),
    Option(
        "open-route",
        _route,
        "a closed route (docs/configuration.md)",
        "open a route that is closed; may be given again",
        (),
        True,
        "ROUTE",
    ),
    Option(
        "lifetime",
        _rule,
        "INSTRUMENT/PRODUCT=DAYS",
        "how many days answers of a product last, or never for ever; * is any; may be given again",
        (),
        True,
        "RULE",
    ),
    Option(
        "sharing",
        _sharing,
        "subject, roles or team",
        "who shares what was asked for with a token: the same subject with the same roles, all with these roles, all",
        "subject",
        metavar="WHO",
    ),
    _SECRET_KEY,
    Option(
        "token-trust",
        _seconds,
        "a number from 0",
        "seconds that the dispatcher's word for a token counts",
        300.0,
        metavar="SECONDS",
    ),
    Option(
        "description-ttl", _seconds, "a number from 0", "seconds a description is remembered", 300.0, metavar="SECONDS"
    ),
    _FIXTURES,
    _TIME_SCALE,
    _SYNTHETIC,
)
STORE = (_UPSTREAM, _CACHE_DIR)
KEY = (replace(_UPSTREAM, default=None, help="dispatcher to ask for descriptions, in place of those kept"), _CACHE_DIR)
PRUNE = (*STORE, _MAX_SIZE)
RECORD = (replace(_UPSTREAM, default=None, help="dispatcher to ask in place of those that the command names"),)
REPLAY = (replace(_TIME_SCALE, default=0.0, help="how long recorded jobs take: 1 as they did, 0 no time"),)
MOCK = (
    _FIXTURES,
    _HOST,
    _port_option(8401),
    Option("scenario", _text, "a name", "what is to go wrong, by name", metavar="NAME"),
    Option("scenarios", Path, "a file", "file of scenarios of one's own; may be given again", (), True, "FILE"),
    _TIME_SCALE,
    _SYNTHETIC,
    Option("generation", _generation, "today or 2019", "which dispatcher to imitate", "today", metavar="WHICH"),
    _SECRET_KEY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The values of `SERVE`."""

    upstream: str
    mock: bool
    host: str
    port: int
    cache_dir: Path | None
    max_size: int
    max_requests: int
    max_jobs: int
    longest_job: float
    max_rate: float
    offline: bool
    open_route: tuple[str, ...]
    lifetime: tuple[Rule, ...]
    sharing: str
    secret_key: str | None = field(repr=False)
    token_trust: float
    description_ttl: float
    fixtures: tuple[Path, ...]
    time_scale: float
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MockOptions:
    """The values of `MOCK`."""

    fixtures: tuple[Path, ...]
    host: str
    port: int
    scenario: str | None
    scenarios: tuple[Path, ...]
    time_scale: float
    synthetic: bool
    generation: str
    secret_key: str | None = field(repr=False)


def resolve(
    options: tuple[Option, ...], given: Mapping[str, Any], environ: Mapping[str, str], file: Path | None
) -> dict[str, Any]:
    """Give every option its value.

    `given` holds what the command line said, as text. Raises UsageError, which names the option and where it was set.
    """
    from_file = _read_file(file)
    values = {}
    for option in options:
        if (said := given.get(option.name)) is not None:
            values[option.name] = value_of(option, said, option.flag)
        elif (text := environ.get(option.variable)) is not None:
            values[option.name] = value_of(option, text.split(os.pathsep) if option.many else text, option.variable)
        elif option.name in from_file:
            values[option.name] = value_of(option, from_file[option.name], f"{option.name} in {file or FILE}")
        else:
            values[option.name] = option.default
    return values


def cache_folder(chosen: Path | None, upstream: str) -> Path:
    """Give the folder for recordings of one dispatcher.

    Each address has its own: what a mock or a staging site answered is not what the real one does.
    """
    from urllib.parse import quote, urlsplit, urlunsplit  # not needed by the mock

    if chosen is None:
        import platformdirs  # not needed where a folder is chosen

        chosen = platformdirs.user_cache_path("oda-proxy", appauthor=False)
    parts = urlsplit(upstream)
    place = urlunsplit((parts.scheme, parts.netloc.casefold(), parts.path.rstrip("/"), "", ""))
    return chosen / quote(place, safe="")


def value_of(option: Option, given: Any, where: str) -> Any:
    """Read one value, which may be a number or a boolean already. Raises UsageError, which names `where` it was set."""
    if option.many:
        return tuple(_one(option, one, where) for one in (given if isinstance(given, list | tuple) else [given]))
    return _one(option, given, where)


def _one(option: Option, given: Any, where: str) -> Any:
    try:
        return option.read(str(given))
    except ValueError:
        said = "what it is" if "@" in str(given) else repr(str(given))  # there may be a password before it
        raise UsageError(f"{where} must be {option.wants}, not {said}") from None


def _read_file(file: Path | None) -> dict[str, Any]:
    """Read the configuration file: the one named, which must be there, or the one in this folder, if it is."""
    path = file or Path(FILE)
    if file is None and not path.is_file():
        return {}
    import tomllib  # most starts have no file

    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"the configuration {path} is larger than {LARGEST_FILE} bytes")
        read = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the configuration {path} is no TOML: {error}") from error
    known = {option.name for option in (*SERVE, *MOCK)}
    if unknown := sorted(set(read) - known):
        raise UsageError(f"the configuration {path} has an unknown option {unknown[0]!r}")
    return read
