"""Options from the command line, the environment and the configuration file, in this order of precedence.

No other module reads `ODA_PROXY_*` variables.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy.errors import UsageError
from oda_proxy.files.config_file import PREFIX, URL, read_config_file
from oda_proxy.store.amounts import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oda_proxy.files.config_file import ConfigFile
    from oda_proxy.http.front_end_headers import Network
    from oda_proxy.store.freshness import Rule

PRODUCTION = "https://www.astro.unige.ch/mmoda/dispatch-data"


def _text(value: str) -> str:
    """Refuse a blank value: compose files and templates set one for a variable that they lack."""
    if not value.strip():
        raise ValueError(value)
    return value


def _path(value: str) -> Path:
    return Path(_text(value))


def _route(value: str) -> str:
    from oda_proxy.http.routes import CLOSED_ROUTES  # imported only if the option is set

    if value not in CLOSED_ROUTES:
        raise ValueError(value)
    return value


def _host_name(value: str) -> str:
    """Check the name of a host, without scheme, port and path, and return it in lower case."""
    if not value or not all(character.isalnum() or character in "-._:" for character in value) or "://" in value:
        raise ValueError(value)
    return value.casefold()


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


def _log_format(value: str) -> str:
    if value not in {"text", "json"}:
        raise ValueError(value)
    return value


def _generation(value: str) -> str:
    if value not in {"today", "2019"}:
        raise ValueError(value)
    return value


def _size_or_none(value: str) -> int:
    """Parse a size, or 0."""
    return 0 if value.strip() == "0" else parse_size(value)


def _compress(value: str) -> str:
    if value not in {"auto", "always", "never"}:
        raise ValueError(value)
    return value


def _sharing(value: str) -> str:
    if value not in {"subject", "roles", "team"}:
        raise ValueError(value)
    return value


def _readers(value: str) -> str:
    if value not in {"anyone", "local", "token", "verified"}:
        raise ValueError(value)
    return value


def _allowed_host(value: str) -> str:
    """Check a name of this server, without a port, or `*`."""
    name = _host_name("any" if value == "*" else value.removeprefix("[").removesuffix("]"))
    if name.count(":") == 1:
        raise ValueError(value)
    return value if value == "*" else name


def _rule(value: str) -> Rule:
    from oda_proxy.store.freshness import Rule  # imported only if the option is set

    return Rule.parse(value)


def _address(value: str) -> str:
    from urllib.parse import urlsplit  # imported only if the option is set

    parts = urlsplit(value)
    _ = parts.port  # raises ValueError if it is not valid
    if (
        value != value.strip()
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or parts.username
    ):
        raise ValueError(value)
    return value.rstrip("/")


def _public_url(value: str) -> str:
    """Check the URL of this server: `https://host/prefix`, whose path needs no encoding."""
    from urllib.parse import urlsplit  # imported only if the option is set

    from oda_proxy.http.front_end_headers import plain_prefix

    path = urlsplit(value).path
    if path.strip("/") and plain_prefix(path) is None:
        raise ValueError(value)
    return _address(value)


def _trusted_proxy(value: str) -> Network | str:
    """Parse the address of a front end or a network of them, or `unix`."""
    import ipaddress  # imported only if the option is set

    return value if value == "unix" else ipaddress.ip_network(value)


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(_origin(origin.strip()) for origin in value.split(","))
    if len(origins) > 1 and "*" in origins:
        raise ValueError(value)
    return origins


def _origin(value: str) -> str:
    """Return an origin as browsers send it: scheme and host in lower case, and a port unless it is the default."""
    from urllib.parse import urlsplit  # imported only if the option is set

    if value == "*":
        return value
    parts = urlsplit(value.casefold())
    _ = parts.port  # raises ValueError if it is not valid
    if (
        parts.scheme not in _DEFAULT_PORTS
        or not parts.hostname
        or value.casefold() != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError(value)
    if parts.username is not None:
        raise ValueError(value)
    return f"{parts.scheme}://{parts.netloc.removesuffix(_DEFAULT_PORTS[parts.scheme])}"


_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    `read` parses its text and raises ValueError; `expects` says in messages what is valid; `many` allows it several
    times, in the environment with `separator` between. `file_name` is its name in the configuration file, if another.
    """

    name: str
    read: Callable[[str], Any]
    expects: str
    help: str
    default: Any = None
    many: bool = False
    metavar: str | None = None
    separator: str = os.pathsep
    file_name: str = ""

    @property
    def key(self) -> str:
        """The name in the configuration file."""
        return self.file_name or self.name

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"ODA_PROXY_{self.name.upper().replace('-', '_')}"


_HOST = Option("host", _text, "a host", "address to listen on", "127.0.0.1", metavar="HOST")


def _port_option(default: int) -> Option:
    return Option("port", _port, "a port", "port to listen on; 0 takes a free one", default, metavar="PORT")


_FIXTURES = Option("fixtures", _path, "a folder", "folder of fixtures of the mock; may be repeated", (), True, "DIR")
_TIME_SCALE = Option(
    "time-scale",
    _seconds,
    "a number from 0",
    "duration of the mock's jobs: 1 as recorded, 0 none",
    1.0,
    metavar="X",
)

_UPSTREAM = Option(
    "upstream", _address, "an http(s) URL without user and query", "URL of the dispatcher", PRODUCTION, metavar="URL"
)
_FORMER_URL = Option(
    "former-url",
    _address,
    "an http(s) URL without user and query",
    "former URL of the dispatcher, whose recordings are used, too; may be repeated",
    (),
    True,
    "URL",
    separator=" ",
    file_name="former-urls",
)
_CACHE_DIR = Option(
    "cache-dir", _path, "a folder", "folder of recordings (default the user's cache folder)", metavar="DIR"
)
_MAX_SIZE = Option(
    "max-size",
    parse_size,
    "a size such as 500MB or 20GiB",
    "maximum size of all recordings on disk",
    20_000_000_000,
    metavar="SIZE",
)

_MIN_FREE = Option(
    "min-free",
    _size_or_none,
    "a size such as 500MB or 20GiB, or 0",
    "free space to keep on the disk of the recordings, at most 5 %% of it",
    1_000_000_000,
    metavar="SIZE",
)

_SYNTHETIC = Option("synthetic", _switch, "yes or no", "the mock synthesises data for queries without a fixture", False)
_SECRET_KEY = Option(
    "secret-key", _text, "a key that is not empty", "key that signs the tokens of the dispatcher", metavar="KEY"
)

_ADMIN_TOKEN = Option(
    "admin-token", _text, "a token that is not empty", "token of the administrator, for HTTP", metavar="TOKEN"
)
_ADMIN_TOKEN_FILE = Option(
    "admin-token-file", _path, "a file", "file with the token of the administrator", metavar="FILE"
)
_READ_TOKEN = Option(
    "read-token", _text, "a token that is not empty", "token of those who may read the pages", metavar="TOKEN"
)

_SECRETS = (_SECRET_KEY, _ADMIN_TOKEN, _READ_TOKEN)

SERVE = (
    _UPSTREAM,
    _FORMER_URL,
    Option("mock", _switch, "yes or no", "use a mock dispatcher, started in this process", False),
    _HOST,
    _port_option(8400),
    Option(
        "public-url",
        _public_url,
        "a URL such as https://example.org/oda",
        "URL of this server for its clients, where a front end has another one (default: as requested)",
        metavar="URL",
    ),
    Option(
        "trusted-proxy",
        _trusted_proxy,
        "an address, a network such as 10.0.0.0/8, or unix",
        "front end whose X-Forwarded-* and Forwarded headers are read; may be repeated",
        (),
        True,
        "ADDRESS",
        separator=",",
    ),
    Option("tls-cert", _path, "a file", "certificate of this server, and of its issuers (PEM)", metavar="FILE"),
    Option(
        "tls-key", _path, "a file", "key of the certificate (PEM; default: in the file of --tls-cert)", metavar="FILE"
    ),
    _CACHE_DIR,
    _MAX_SIZE,
    _MIN_FREE,
    Option(
        "memory",
        _size_or_none,
        "a size such as 500MB or 2GiB, or 0",
        "memory for recordings that were requested lately; 0 for none",
        256_000_000,
        metavar="SIZE",
    ),
    Option(
        "compress",
        _compress,
        "auto, always or never",
        "clients that get recordings compressed if they accept it: auto, those on other machines; always, all; never, "
        "none",
        "auto",
        metavar="WHICH",
    ),
    Option(
        "max-requests",
        _count,
        "a number from 1",
        "maximum number of concurrent requests to the dispatcher",
        32,
        metavar="NUMBER",
    ),
    Option(
        "max-jobs",
        _count,
        "a number from 1",
        "maximum number of concurrent jobs at the dispatcher",
        16,
        metavar="NUMBER",
    ),
    Option(
        "workers",
        _count,
        "a number from 1",
        "number of processes that answer requests (docs/jobs.md)",
        1,
        metavar="NUMBER",
    ),
    Option("longest-job", _rate, "a number above 0", "hours after which a job is abandoned", 24.0, metavar="HOURS"),
    Option(
        "max-rate",
        _rate,
        "a number above 0",
        "maximum number of requests to the dispatcher per second",
        20.0,
        metavar="NUMBER",
    ),
    Option("offline", _switch, "yes or no", "never contact the dispatcher: queries without a recording fail", False),
    Option(
        "open-route",
        _route,
        "a closed route (docs/configuration.md)",
        "forward a closed route; may be repeated",
        (),
        True,
        "ROUTE",
    ),
    Option(
        "lifetime",
        _rule,
        "INSTRUMENT/PRODUCT=DAYS",
        "days until recordings of a product expire, or never; * matches any; may be repeated",
        (),
        True,
        "RULE",
    ),
    Option(
        "sharing",
        _sharing,
        "subject, roles or team",
        "who may read a private recording: subject, the same person with the same roles; roles, everybody with these "
        "roles; team, everybody with a valid token",
        "subject",
        metavar="WHO",
    ),
    _SECRET_KEY,
    _ADMIN_TOKEN,
    _ADMIN_TOKEN_FILE,
    _READ_TOKEN,
    Option("read-token-file", _path, "a file", "file with the token of those who may read the pages", metavar="FILE"),
    Option("metrics-token-file", _path, "a file", "file with the token for /-/metrics", metavar="FILE"),
    Option(
        "readers",
        _readers,
        "anyone, local, token or verified",
        "who may read the pages, beside those with a token of this server: anyone; local, clients on this machine; "
        "token, nobody; verified, persons whose token the dispatcher accepts",
        "local",
        metavar="WHO",
    ),
    Option(
        "allowed-host",
        _allowed_host,
        "the name of a host, or *",
        "name under which this server answers, and no other; may be repeated",
        (),
        True,
        "HOST",
    ),
    Option(
        "client-rate",
        _rate,
        "a number above 0",
        "maximum number of requests of one client per second (default: no limit)",
        metavar="NUMBER",
    ),
    Option(
        "client-jobs",
        _count,
        "a number from 1",
        "maximum number of running jobs of one client (default: no limit)",
        metavar="NUMBER",
    ),
    Option(
        "client-bytes",
        parse_size,
        "a size such as 500MB or 2GiB",
        "maximum size of the responses to one client in a day (default: no limit)",
        metavar="SIZE",
    ),
    Option(
        "token-trust",
        _seconds,
        "a number from 0",
        "seconds for which a token that the dispatcher accepted is trusted",
        300.0,
        metavar="SECONDS",
    ),
    Option(
        "description-ttl",
        _seconds,
        "a number from 0",
        "seconds for which descriptions are cached",
        300.0,
        metavar="SECONDS",
    ),
    Option(
        "cors-origins",
        _origins,
        "origins such as https://example.org, separated by commas, or *",
        "web sites whose scripts may read answers, separated by commas; * for any",
        (),
        metavar="ORIGINS",
    ),
    Option("log-format", _log_format, "text or json", "form of the lines of the log", "text", metavar="WHICH"),
    Option("log-file", _path, "a file", "file for the log (default standard error)", metavar="FILE"),
    Option("log-people", _switch, "yes or no", "name people in the log, and not by a hash", False),
    _FIXTURES,
    _TIME_SCALE,
    _SYNTHETIC,
)
OF_UPSTREAM = frozenset(
    {
        "cache-dir",
        "compress",
        "cors-origins",
        "description-ttl",
        "former-url",
        "lifetime",
        "longest-job",
        "max-jobs",
        "max-rate",
        "max-requests",
        "max-size",
        "memory",
        "min-free",
        "offline",
        "open-route",
        "secret-key",
        "sharing",
        "token-trust",
    }
)
"""Options that each of several upstreams may have for itself."""
_SERVER = Option(
    "server",
    _address,
    "an http(s) URL without user and query",
    "URL of a running proxy, to work with its recordings and jobs",
    metavar="URL",
)
REMOTE = (_SERVER, _ADMIN_TOKEN, _ADMIN_TOKEN_FILE, _READ_TOKEN)
"""Options of commands that may work through the HTTP API of a running proxy."""
JOBS = (
    _SERVER,
    Option(
        "proxy",
        _address,
        "an http(s) URL without user and query",
        "URL of the proxy, as --server (default: that of --host and --port, on this machine)",
        metavar="URL",
    ),
    replace(_HOST, help="address on which the proxy listens"),
    replace(_port_option(8400), help="port on which the proxy listens"),
    _ADMIN_TOKEN,
    _ADMIN_TOKEN_FILE,
    _READ_TOKEN,
)
_OF_CLIENTS = frozenset({"compress", "cors-origins", "memory", "offline", "open-route"})
"""Options of an upstream that concern what its clients get, and when."""
WARM = (
    replace(_SERVER, help="URL of the proxy to send queries to (default: one in this process, on the same recordings)"),
    *(option for option in SERVE if option.name in {"upstream", *OF_UPSTREAM} - _OF_CLIENTS),
)
STORE = (_UPSTREAM, _FORMER_URL, _CACHE_DIR)
REFRESH = (
    *REMOTE,
    replace(_HOST, help="address on which the proxy listens"),
    replace(_port_option(8400), help="port on which the proxy listens"),
)
KEY = (
    replace(_UPSTREAM, default=None, help="dispatcher to fetch descriptions from (default: cached ones)"),
    _CACHE_DIR,
)
PRUNE = (*STORE, _MAX_SIZE, _MIN_FREE)
OPEN = (
    *STORE,
    Option(
        "viewer",
        _text,
        "a program",
        "FITS viewer where no SAMP hub runs (default the one of the system, by xdg-open or open)",
        metavar="PROGRAM",
    ),
)
RECORD = (
    replace(_UPSTREAM, default=None, help="dispatcher to use in place of those that the command contacts"),
    Option(
        "max-page",
        parse_size,
        "a size such as 500MB or 1GiB",
        "largest page of another server that is recorded",
        16 * 1024 * 1024,
        metavar="SIZE",
    ),
    Option(
        "keep-post",
        _host_name,
        "the name of a host",
        "record the responses to POST of a host (TAP, VizieR, SIMBAD), by the digest of the request; may be repeated",
        (),
        True,
        "HOST",
    ),
)
REPLAY = (
    replace(_TIME_SCALE, default=0.0, help="duration of replayed jobs: 1 as recorded, 0 none"),
    replace(_UPSTREAM, default=None, help="present URL of a dispatcher that was recorded at a --former-url"),
    _FORMER_URL,
)
MOCK = (
    _FIXTURES,
    _HOST,
    _port_option(8401),
    Option("scenario", _text, "a name", "scenario of faults to play", metavar="NAME"),
    Option("scenarios", _path, "a file", "file with further scenarios; may be repeated", (), True, "FILE"),
    _TIME_SCALE,
    _SYNTHETIC,
    Option(
        "generation", _generation, "today or 2019", "version of the dispatcher to imitate", "today", metavar="WHICH"
    ),
    _SECRET_KEY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The values of `SERVE`."""

    upstream: str
    former_url: tuple[str, ...]
    mock: bool
    host: str
    port: int
    public_url: str | None
    trusted_proxy: tuple[Network | str, ...]
    tls_cert: Path | None
    tls_key: Path | None
    cache_dir: Path | None
    max_size: int
    min_free: int
    memory: int
    compress: str
    max_requests: int
    max_jobs: int
    workers: int
    longest_job: float
    max_rate: float
    offline: bool
    open_route: tuple[str, ...]
    lifetime: tuple[Rule, ...]
    sharing: str
    secret_key: str | None = field(repr=False)
    admin_token: str | None = field(repr=False)
    admin_token_file: Path | None
    read_token: str | None = field(repr=False)
    read_token_file: Path | None
    metrics_token_file: Path | None
    readers: str
    allowed_host: tuple[str, ...]
    client_rate: float | None
    client_jobs: int | None
    client_bytes: int | None
    token_trust: float
    description_ttl: float
    cors_origins: tuple[str, ...]
    log_format: str
    log_file: Path | None
    log_people: bool
    fixtures: tuple[Path, ...]
    time_scale: float
    synthetic: bool
    name: str = ""
    """The name of one of several upstreams."""
    prefix: str = ""
    """Where it is in the address of this server; empty for the root."""
    upstreams: tuple[ServeOptions, ...] = ()
    """The options of each of several upstreams; empty for one."""

    @property
    def each_upstream(self) -> tuple[ServeOptions, ...]:
        """The options of each upstream, also of a single one."""
        return self.upstreams or (self,)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """The values of `STORE`: which store a command works on."""

    upstream: str
    former_url: tuple[str, ...] = ()
    cache_dir: Path | None = None

    @classmethod
    def pop(cls, values: dict[str, Any]) -> StoreOptions:
        """Take these values out of those of a command."""
        return cls(**{name: values.pop(name) for name in ("upstream", "former_url", "cache_dir")})


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
    options: tuple[Option, ...],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Path | None,
    *,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Return the value of every option.

    `flags` holds the text of options on the command line; `warn` is called with a line of text. Raises UsageError,
    which names the option and its source.
    """
    config_file, flags, environ = _of_upstream(read_file(file), options, flags, environ)
    return values_from(options, flags, environ, config_file, warn=warn)


def read_file(file: Path | None) -> ConfigFile:
    """Read the configuration: `file`, which must exist, or else the default file, if it exists. Raises UsageError."""
    return read_config_file(
        file,
        options={option.key for option in (*SERVE, *MOCK)},
        table_options={option.key for option in SERVE if option.name in OF_UPSTREAM},
    )


def values_from(
    options: tuple[Option, ...],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    config_file: ConfigFile,
    *,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Return the value of every option, as `resolve`, from a configuration that was read."""
    from_file = config_file.options
    for secret in _SECRETS:
        if secret in options and secret.key in from_file:
            _check_mode(config_file.path, secret.key, warn)
    values = {}
    for option in options:
        if (flag := flags.get(option.name)) is not None:
            values[option.name] = value_of(option, flag, option.flag)
        elif (text := environ.get(option.variable)) is not None:
            several = [one for one in text.split(option.separator) if one or option.separator == os.pathsep]
            values[option.name] = value_of(option, several if option.many else text, option.variable)
        elif option.key in from_file:
            values[option.name] = value_of(option, from_file[option.key], config_file.source(option.key))
        else:
            values[option.name] = option.default
    return values


def chosen_upstream(config_file: ConfigFile, flags: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """Return the name of the table that `--upstream` names, or whose url it is; None for another address.

    Without `--upstream` that is the only table, or else that with the prefix `/`, or an empty text.
    """
    tables = config_file.upstreams
    text = flags.get(_UPSTREAM.name) or environ.get(_UPSTREAM.variable)
    if text is not None:
        urls = {str(table[URL]).rstrip("/"): name for name, table in tables.items()}
        return text if text in tables else urls.get(str(text).rstrip("/"))
    if len(tables) == 1:
        return next(iter(tables))
    return next((name for name, table in tables.items() if table.get(PREFIX) == "/"), "")


def _of_upstream(
    config_file: ConfigFile, options: tuple[Option, ...], flags: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[ConfigFile, Mapping[str, Any], Mapping[str, str]]:
    """Return the configuration of the upstream that a command works on, and the other options.

    Raises UsageError where a command needs one of several upstreams, and none is named.
    """
    of_upstream = next((option for option in options if option.name == _UPSTREAM.name), None)
    if not config_file.upstreams or of_upstream is None:
        return config_file, flags, environ
    name = chosen_upstream(config_file, flags, environ)
    is_named = flags.get(_UPSTREAM.name) is not None or _UPSTREAM.variable in environ
    if name is None or (of_upstream.default is None and not is_named):
        return config_file, flags, environ
    if not name:
        names = ", ".join(config_file.upstreams)
        raise UsageError(f"{config_file.path} has several upstreams: choose one with --upstream: {names}")
    flags = {key: value for key, value in flags.items() if key != _UPSTREAM.name}
    environ = {key: value for key, value in environ.items() if key != _UPSTREAM.variable}
    return config_file.with_upstream(name), flags, environ


def cache_folder(chosen: Path | None, upstream: str) -> Path:
    """Return the folder for the recordings of one dispatcher.

    Each URL has its own: responses of a mock or a staging site are not those of production.
    """
    from urllib.parse import quote, urlsplit, urlunsplit  # not needed by the mock

    if chosen is None:
        import platformdirs  # imported only if no folder is chosen

        chosen = platformdirs.user_cache_path("oda-proxy", appauthor=False)
    parts = urlsplit(upstream)
    url = urlunsplit((parts.scheme, parts.netloc.casefold(), parts.path.rstrip("/"), "", ""))
    return chosen / quote(url, safe="")


def former_folders(chosen: Path | None, upstream: str, former_urls: Iterable[str]) -> list[Path]:
    """Return the folders for the recordings of the former addresses of a dispatcher.

    Raises UsageError for an address that is named twice, or is the present one.
    """
    folders = {cache_folder(chosen, upstream): upstream}
    for url in former_urls:
        folder = cache_folder(chosen, url)
        if folder in folders:
            is_same = folders[folder] == upstream
            raise UsageError(f"--former-url {url} {'is the --upstream itself' if is_same else 'is named twice'}")
        folders[folder] = url
    return list(folders)[1:]


def value_of(option: Option, value: Any, source: str) -> Any:
    """Parse the value of an option: text, number or boolean. Raises UsageError, which names its `source`."""
    if option.many:
        return tuple(_parsed(option, one, source) for one in (value if isinstance(value, list | tuple) else [value]))
    return _parsed(option, value, source)


def _parsed(option: Option, value: Any, source: str) -> Any:
    try:
        return option.read(str(value))
    except ValueError:
        is_secret = option in _SECRETS or "@" in str(value)  # the part before @ may be a password
        shown = f", not {str(value)!r}" if not is_secret or not str(value).strip() else ""
        raise UsageError(f"{source} must be {option.expects}{shown}") from None


def _check_mode(file: Path, secret: str, warn: Callable[[str], None]) -> None:
    """Warn if other users can read a file with a secret."""
    mode = file.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        article = "an" if secret.startswith("a") else "a"
        warn(f"{file} has {article} {secret}, and other users can read it (mode {mode:04o}): run chmod 600 {file}")
