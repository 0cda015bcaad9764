"""All options: their names, kinds, defaults and help."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from oda_proxy.config.values import (
    parse_address,
    parse_allowed_host,
    parse_as_of,
    parse_compress,
    parse_count,
    parse_dummy_release,
    parse_generation,
    parse_history,
    parse_host_name,
    parse_log_format,
    parse_origins,
    parse_path,
    parse_port,
    parse_public_url,
    parse_rate,
    parse_readers,
    parse_route,
    parse_rule,
    parse_seconds,
    parse_sharing,
    parse_size_or_none,
    parse_store,
    parse_switch,
    parse_text,
    parse_trusted_proxy,
)
from oda_proxy.store.amounts import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable


PRODUCTION = "https://www.astro.unige.ch/mmoda/dispatch-data"


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


_HOST = Option("host", parse_text, "a host", "address to listen on", "127.0.0.1", metavar="HOST")


def _port_option(default: int) -> Option:
    return Option("port", parse_port, "a port", "port to listen on; 0 takes a free one", default, metavar="PORT")


_FIXTURES = Option(
    "fixtures", parse_path, "a folder", "folder of fixtures of the mock; may be repeated", (), True, "DIR"
)

_TIME_SCALE = Option(
    "time-scale",
    parse_seconds,
    "a number from 0",
    "duration of the mock's jobs: 1 as recorded, 0 none",
    1.0,
    metavar="X",
)

UPSTREAM = Option(
    "upstream",
    parse_address,
    "an http(s) URL without user and query",
    "URL of the dispatcher",
    PRODUCTION,
    metavar="URL",
)

_FORMER_URL = Option(
    "former-url",
    parse_address,
    "an http(s) URL without user and query",
    "former URL of the dispatcher, whose recordings are used, too; may be repeated",
    (),
    True,
    "URL",
    separator=" ",
    file_name="former-urls",
)

_CACHE_DIR = Option(
    "cache-dir", parse_path, "a folder", "folder of recordings (default the user's cache folder)", metavar="DIR"
)

STORE_URL = Option(
    "store",
    parse_store,
    "a URL such as redis://host/0?bodies=s3://bucket/prefix (docs/scale.md)",
    "recordings in Redis and an object store or a shared folder, for several servers (default in --cache-dir)",
    metavar="URL",
)

_MAX_SIZE = Option(
    "max-size",
    parse_size,
    "a size such as 500MB or 20GiB",
    "maximum size of all recordings on disk",
    20_000_000_000,
    metavar="SIZE",
)

_COLLECTIONS = Option(
    "collections",
    parse_size_or_none,
    "a size such as 500MB or 20GiB, or 0",
    "disk space that recordings in collections (/in/NAME) may take; 0 makes no collections",
    10_000_000_000,
    metavar="SIZE",
)

_MIN_FREE = Option(
    "min-free",
    parse_size_or_none,
    "a size such as 500MB or 20GiB, or 0",
    "free space to keep on the disk of the recordings, at most 5 %% of it",
    1_000_000_000,
    metavar="SIZE",
)

_SYNTHETIC = Option(
    "synthetic", parse_switch, "yes or no", "the mock synthesises data for queries without a fixture", False
)

_SECRET_KEY = Option(
    "secret-key", parse_text, "a key that is not empty", "key that signs the tokens of the dispatcher", metavar="KEY"
)

_ADMIN_TOKEN = Option(
    "admin-token", parse_text, "a token that is not empty", "token of the administrator, for HTTP", metavar="TOKEN"
)

_ADMIN_TOKEN_FILE = Option(
    "admin-token-file", parse_path, "a file", "file with the token of the administrator", metavar="FILE"
)

_READ_TOKEN = Option(
    "read-token", parse_text, "a token that is not empty", "token of those who may read the pages", metavar="TOKEN"
)

SECRETS = (_SECRET_KEY, _ADMIN_TOKEN, _READ_TOKEN)

AS_OF = Option(
    "as-of",
    parse_as_of,
    "a date that is not in the future, such as 2026-03-01, or a time (UTC) such as 2026-03-01T12-30-00, with /only "
    "at its end or without",
    "answer as it was then; what was not recorded by then is requested now, or fails with /only",
    metavar="DATE",
)

SERVE = (
    UPSTREAM,
    _FORMER_URL,
    Option("mock", parse_switch, "yes or no", "use a mock dispatcher, started in this process", False),
    _HOST,
    _port_option(8400),
    Option(
        "public-url",
        parse_public_url,
        "a URL such as https://example.org/oda",
        "URL of this server for its clients, where a front end has another one (default: as requested)",
        metavar="URL",
    ),
    Option(
        "trusted-proxy",
        parse_trusted_proxy,
        "an address, a network such as 10.0.0.0/8, or unix",
        "front end whose X-Forwarded-* and Forwarded headers are read; may be repeated",
        (),
        True,
        "ADDRESS",
        separator=",",
    ),
    Option("tls-cert", parse_path, "a file", "certificate of this server, and of its issuers (PEM)", metavar="FILE"),
    Option(
        "tls-key",
        parse_path,
        "a file",
        "key of the certificate (PEM; default: in the file of --tls-cert)",
        metavar="FILE",
    ),
    _CACHE_DIR,
    STORE_URL,
    _MAX_SIZE,
    _MIN_FREE,
    Option(
        "capsule",
        parse_path,
        "a folder or a file",
        "capsule (folder, .zip or .tar.gz) that answers before the recordings of the store; may be repeated",
        (),
        True,
        "CAPSULE",
    ),
    _COLLECTIONS,
    Option(
        "memory",
        parse_size_or_none,
        "a size such as 500MB or 2GiB, or 0",
        "memory for recordings that were requested lately; 0 for none",
        256_000_000,
        metavar="SIZE",
    ),
    Option(
        "compress",
        parse_compress,
        "auto, always or never",
        "clients that get recordings compressed if they accept it: auto, those on other machines; always, all; never, "
        "none",
        "auto",
        metavar="WHICH",
    ),
    Option(
        "max-requests",
        parse_count,
        "a number from 1",
        "maximum number of concurrent requests to the dispatcher",
        32,
        metavar="NUMBER",
    ),
    Option(
        "max-jobs",
        parse_count,
        "a number from 1",
        "maximum number of concurrent jobs at the dispatcher",
        16,
        metavar="NUMBER",
    ),
    Option(
        "workers",
        parse_count,
        "a number from 1",
        "number of processes that answer requests (docs/jobs.md)",
        1,
        metavar="NUMBER",
    ),
    Option(
        "longest-job", parse_rate, "a number above 0", "hours after which a job is abandoned", 24.0, metavar="HOURS"
    ),
    Option(
        "max-rate",
        parse_rate,
        "a number above 0",
        "maximum number of requests to the dispatcher per second",
        20.0,
        metavar="NUMBER",
    ),
    Option(
        "offline", parse_switch, "yes or no", "never contact the dispatcher: queries without a recording fail", False
    ),
    Option(
        "open-route",
        parse_route,
        "a closed route (docs/configuration.md)",
        "forward a closed route; may be repeated",
        (),
        True,
        "ROUTE",
    ),
    Option(
        "lifetime",
        parse_rule,
        "INSTRUMENT/PRODUCT=DAYS",
        "days until recordings of a product expire, or never; * matches any; may be repeated",
        (),
        True,
        "RULE",
    ),
    Option(
        "history",
        parse_history,
        "all, none, a number of versions such as 10, an age such as 365d, or both: 10,365d",
        "earlier versions of each recording that are stored (default all, until space runs out)",
        metavar="LIMITS",
    ),
    AS_OF,
    Option(
        "sharing",
        parse_sharing,
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
    Option(
        "read-token-file", parse_path, "a file", "file with the token of those who may read the pages", metavar="FILE"
    ),
    Option("metrics-token-file", parse_path, "a file", "file with the token for /-/metrics", metavar="FILE"),
    Option(
        "readers",
        parse_readers,
        "anyone, local, token or verified",
        "who may read the pages, beside those with a token of this server: anyone; local, clients on this machine; "
        "token, nobody; verified, persons whose token the dispatcher accepts",
        "local",
        metavar="WHO",
    ),
    Option(
        "allowed-host",
        parse_allowed_host,
        "the name of a host, or *",
        "name under which this server answers, and no other; may be repeated",
        (),
        True,
        "HOST",
    ),
    Option(
        "drain",
        parse_seconds,
        "a number from 0",
        "seconds for which a server that is to stop goes on, while /-/readyz has its balancer take it out",
        0.0,
        metavar="SECONDS",
    ),
    Option(
        "client-rate",
        parse_rate,
        "a number above 0",
        "maximum number of requests of one client per second (default: no limit)",
        metavar="NUMBER",
    ),
    Option(
        "client-jobs",
        parse_count,
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
        parse_seconds,
        "a number from 0",
        "seconds for which a token that the dispatcher accepted is trusted",
        300.0,
        metavar="SECONDS",
    ),
    Option(
        "description-ttl",
        parse_seconds,
        "a number from 0",
        "seconds for which descriptions are cached",
        300.0,
        metavar="SECONDS",
    ),
    Option(
        "cors-origins",
        parse_origins,
        "origins such as https://example.org, separated by commas, or *",
        "web sites whose scripts may read answers, separated by commas; * for any",
        (),
        metavar="ORIGINS",
    ),
    Option("log-format", parse_log_format, "text or json", "form of the lines of the log", "text", metavar="WHICH"),
    Option("log-file", parse_path, "a file", "file for the log (default standard error)", metavar="FILE"),
    Option("log-people", parse_switch, "yes or no", "name people in the log, and not by a hash", False),
    _FIXTURES,
    _TIME_SCALE,
    _SYNTHETIC,
)

OF_UPSTREAM = frozenset(
    {
        "as-of",
        "cache-dir",
        "capsule",
        "collections",
        "compress",
        "cors-origins",
        "description-ttl",
        "former-url",
        "history",
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
        "store",
        "token-trust",
    }
)
"""Options that each of several upstreams may have for itself."""

_SERVER = Option(
    "server",
    parse_address,
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
        parse_address,
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

_OF_CLIENTS = frozenset({"as-of", "compress", "cors-origins", "memory", "offline", "open-route"})
"""Options of an upstream that concern what its clients get, and when."""

WARM = (
    replace(_SERVER, help="URL of the proxy to send queries to (default: one in this process, on the same recordings)"),
    *(option for option in SERVE if option.name in {"upstream", *OF_UPSTREAM} - _OF_CLIENTS),
)

STORE = (UPSTREAM, _FORMER_URL, _CACHE_DIR, STORE_URL)

DIFF = (_FORMER_URL, _CACHE_DIR, STORE_URL)

REFRESH = (
    *REMOTE,
    replace(_HOST, help="address on which the proxy listens"),
    replace(_port_option(8400), help="port on which the proxy listens"),
)

KEY = (
    replace(UPSTREAM, default=None, help="dispatcher to fetch descriptions from (default: cached ones)"),
    _CACHE_DIR,
)

PRUNE = (*STORE, _MAX_SIZE, _MIN_FREE)

OPEN = (
    *STORE,
    *REMOTE,
    Option(
        "viewer",
        parse_text,
        "a program",
        "FITS viewer where no SAMP hub runs (default the one of the system, by xdg-open or open)",
        metavar="PROGRAM",
    ),
)

RECORD = (
    replace(UPSTREAM, default=None, help="dispatcher to use in place of those that the command contacts"),
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
        parse_host_name,
        "the name of a host",
        "record the responses to POST of a host (TAP, VizieR, SIMBAD), by the digest of the request; may be repeated",
        (),
        True,
        "HOST",
    ),
)

REPLAY = (
    replace(_TIME_SCALE, default=0.0, help="duration of replayed jobs: 1 as recorded, 0 none"),
    replace(AS_OF, help="answer from what was recorded by then; other requests fail"),
    replace(UPSTREAM, default=None, help="present URL of a dispatcher that was recorded at a --former-url"),
    _FORMER_URL,
)

MOCK = (
    _FIXTURES,
    _HOST,
    _port_option(8401),
    Option("scenario", parse_text, "a name", "scenario of faults to play", metavar="NAME"),
    Option("scenarios", parse_path, "a file", "file with further scenarios; may be repeated", (), True, "FILE"),
    _TIME_SCALE,
    _SYNTHETIC,
    Option(
        "like",
        parse_text,
        "a URL or a folder",
        "describe the instruments as this dispatcher does, or as it did for this capsule or these recordings",
        metavar="URL|DIR",
    ),
    Option("save-descriptions", parse_path, "a folder", "write the descriptions of --like here", metavar="DIR"),
    Option("descriptions", parse_path, "a folder", "folder of descriptions; may be repeated", (), True, "DIR"),
    Option(
        "public-instruments",
        parse_switch,
        "yes or no",
        "add instruments that are known by their public descriptions: gw, legacysurvey, magic and others",
        False,
    ),
    Option(
        "dummy-instruments",
        parse_switch,
        "yes or no",
        "add the dispatcher's dummy instruments: empty, empty-async, empty-semi-async and others",
        False,
    ),
    Option(
        "dummy-release",
        parse_dummy_release,
        "1.3.3 or 1.3.6",
        "release of the dispatcher whose dummy instruments to add",
        "1.3.6",
        metavar="X",
    ),
    Option(
        "job-folders", parse_path, "a folder", "write a folder for each job, as a dispatcher does", None, metavar="DIR"
    ),
    Option("pages", parse_path, "a file", "file with pages of other services; may be repeated", (), True, "FILE"),
    Option(
        "generation",
        parse_generation,
        "today or 2019",
        "version of the dispatcher to imitate",
        "today",
        metavar="WHICH",
    ),
    _SECRET_KEY,
)
