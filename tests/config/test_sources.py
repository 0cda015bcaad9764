"""Options come from the flag, the environment, the file or the default, in this order."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from oda_proxy.config.folders import cache_folder
from oda_proxy.config.options import KEY, MOCK, OPEN, PRODUCTION, PRUNE, RECORD, SERVE
from oda_proxy.config.sources import resolve_options
from oda_proxy.config.values import parse_as_of
from oda_proxy.errors import UsageError
from oda_proxy.files.config_file import FILE
from tests.support.paths import DOCS


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty working folder."""
    monkeypatch.chdir(tmp_path)


def port(flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, file: Path | None = None) -> int:
    values = resolve_options(SERVE, flags or {}, environ or {}, file, warn=pytest.fail)
    result: int = values["port"]
    return result


def test_the_first_source_with_a_value_takes_precedence(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("port = 3\n")

    assert port() == 8400
    assert port(file=file) == 3
    assert port({}, {"ODA_PROXY_PORT": "2"}, file) == 2
    assert port({"port": "1"}, {"ODA_PROXY_PORT": "2"}, file) == 1


def test_the_default_file_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('offline = true\nopen-route = ["call_back"]\ncache-dir = "recordings"\n')

    values = resolve_options(SERVE, {}, {}, None, warn=pytest.fail)

    assert (values["offline"], values["open-route"], values["cache-dir"]) == (True, ("call_back",), Path("recordings"))


def test_origins_are_written_as_browsers_send_them() -> None:
    text = "https://Example.org:443, http://localhost:8888,http://[::1]:80"

    values = resolve_options(SERVE, {"cors-origins": text}, {}, None, warn=pytest.fail)

    assert values["cors-origins"] == ("https://example.org", "http://localhost:8888", "http://[::1]")


def test_a_repeatable_option_is_a_list_in_the_environment() -> None:
    values = resolve_options(MOCK, {}, {"ODA_PROXY_FIXTURES": "one:two"}, None, warn=pytest.fail)

    assert values["fixtures"] == (Path("one"), Path("two"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "-1"),
        ("port", "65536"),
        ("port", "http"),
        ("upstream", "dispatcher.example"),
        ("upstream", "ftp://dispatcher.example"),
        ("upstream", "http://dispatcher.example/?token=1"),
        ("upstream", "http://"),
        ("offline", "maybe"),
        ("description-ttl", "-1"),
        ("description-ttl", "nan"),
        ("cors-origins", ""),
        ("cors-origins", "https://example.org/path"),
        ("cors-origins", "example.org"),
        ("cors-origins", "https://example.org,ftp://example.org"),
        ("time-scale", "inf"),
        ("max-size", "much"),
        ("max-size", "-1 GB"),
        ("max-size", "0"),
        ("max-size", "nan"),
        ("max-size", "5 PB"),
        ("min-free", "some"),
        ("min-free", "-1"),
        ("max-requests", "0"),
        ("max-requests", "1.5"),
        ("max-rate", "0"),
        ("max-rate", "inf"),
        ("generation", "2018"),
    ],
)
def test_an_invalid_value_is_named_with_its_option(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=rf"--{name} must be .*{value!r}".replace("?", r"\?")):
        resolve_options((*SERVE, *MOCK), {name: value}, {}, None, warn=pytest.fail)


TEXTS = ["secret-key", "host", "upstream", "cache-dir", "fixtures", "scenario", "scenarios"]
"""Options whose value is a secret, an address, a name, a folder or a file."""


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
@pytest.mark.parametrize("name", TEXTS)
def test_an_empty_value_is_refused_from_each_source(tmp_path: Path, name: str, value: str) -> None:
    options = (*SERVE, *MOCK)
    (tmp_path / FILE).write_text(f"{name} = {json.dumps([value])[1:-1]}\n")

    for flags, environ in (
        ({name: value}, {}),
        ({}, {f"ODA_PROXY_{name.upper().replace('-', '_')}": value}),
        ({}, {}),
    ):
        with pytest.raises(UsageError, match=r"must be an? .*, not '"):
            resolve_options(options, flags, environ, None, warn=lambda _: None)


def test_all_options_that_are_text_refuse_an_empty_value() -> None:
    accepted = set()
    for option in {*SERVE, *MOCK, *RECORD, *KEY, *OPEN}:
        try:
            option.read(" ")
        except ValueError:
            continue
        accepted.add(option.name)

    assert accepted == set()


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o644, 1), (0o604, 1)])
def test_a_file_with_a_secret_key_that_others_can_read_is_remarked(tmp_path: Path, mode: int, warnings: int) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text('secret-key = "a key"\n')
    file.chmod(mode)
    lines: list[str] = []

    resolve_options(SERVE, {}, {}, file, warn=lines.append)

    assert (
        lines
        == [f"{file} has a secret-key, and other users can read it (mode {mode:04o}): run chmod 600 {file}"] * warnings
    )


def test_a_file_without_a_secret_key_may_be_read_by_others(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("port = 1\n")
    (tmp_path / FILE).chmod(0o644)

    assert port() == 1


def test_an_invalid_value_is_named_with_its_source(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('port = "http"\n')

    with pytest.raises(UsageError, match=f"port in {FILE} must be a port"):
        port()
    with pytest.raises(UsageError, match="ODA_PROXY_PORT must be a port"):
        port({}, {"ODA_PROXY_PORT": "x"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [("port = ", "not valid TOML"), ("prot = 1", "unknown option 'prot'"), ("#" * 2_000_000, "larger than")],
)
def test_an_invalid_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / FILE).write_text(text)

    with pytest.raises(UsageError, match=f"{FILE}.*{reason}"):
        port()


def test_a_named_file_must_exist() -> None:
    with pytest.raises(UsageError, match=r"cannot read the configuration no\.toml: No such file"):
        port(file=Path("no.toml"))


def test_each_dispatcher_has_its_own_folder(tmp_path: Path) -> None:
    urls = ["http://a", "https://a", "http://a:8000", "http://a/x", "http://a/x/y", "http://b"]

    assert len({cache_folder(tmp_path, url) for url in urls}) == len(urls)


def test_two_spellings_of_one_url_share_a_folder(tmp_path: Path) -> None:
    assert cache_folder(tmp_path, "http://A/x/") == cache_folder(tmp_path, "http://a/x")
    assert cache_folder(tmp_path, "http://a").parent == tmp_path


def test_the_default_folder_is_the_cache_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")

    assert cache_folder(None, PRODUCTION).parent == Path("/somewhere/oda-proxy")


def test_every_option_is_documented() -> None:
    document = (DOCS / "configuration.md").read_text()

    for option in {*SERVE, *MOCK, *OPEN}:
        assert f"`{option.flag}" in document
        assert option.variable in document


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        ("2.5G", 2_500_000_000),
        ("2 GiB", 2 * 1024**3),
        ("10kB", 10_000),
        ("1T", 10**12),
    ],
)
def test_sizes_have_decimal_and_binary_units(text: str, size: int) -> None:
    assert resolve_options(PRUNE, {"max-size": text}, {}, None, warn=pytest.fail)["max-size"] == size


@pytest.mark.parametrize(("text", "size"), [("0", 0), (" 0 ", 0), ("500 MB", 500_000_000), (None, 1_000_000_000)])
def test_the_free_space_to_keep_is_a_size_or_zero(text: str | None, size: int) -> None:
    flags = {} if text is None else {"min-free": text}
    assert resolve_options(PRUNE, flags, {}, None, warn=pytest.fail)["min-free"] == size


def test_front_ends_are_addresses_networks_or_unix() -> None:
    expected = tuple(map(ip_network, ("10.0.0.0/8", "::1/128"))), "unix"

    for flags, environ in (
        ({"trusted-proxy": ["10.0.0.0/8", "::1", "unix"]}, {}),
        ({}, {"ODA_PROXY_TRUSTED_PROXY": "10.0.0.0/8,::1,unix"}),
    ):
        (*networks, unix) = resolve_options(SERVE, flags, environ, None, warn=pytest.fail)["trusted-proxy"]
        assert (tuple(networks), unix) == expected


@pytest.mark.parametrize("value", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "", "any"])
def test_a_front_end_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="--trusted-proxy must be an address, a network"):
        resolve_options(SERVE, {"trusted-proxy": [value]}, {}, None, warn=pytest.fail)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.org", "https://example.org"),
        ("https://example.org/", "https://example.org"),
        ("https://example.org:8443/mmoda/dispatch-data/", "https://example.org:8443/mmoda/dispatch-data"),
    ],
)
def test_a_public_url_has_no_slash_at_its_end(text: str, url: str) -> None:
    assert resolve_options(SERVE, {"public-url": text}, {}, None, warn=pytest.fail)["public-url"] == url


@pytest.mark.parametrize(
    "text", ["example.org", "https://a/b c", "https://a/../b", "https://a//b", "https://a?b", "ftp://a"]
)
def test_a_public_url_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--public-url must be a URL such as"):
        resolve_options(SERVE, {"public-url": text}, {}, None, warn=pytest.fail)


def test_a_past_time_is_compared_with_the_clock_that_is_passed_in() -> None:
    noon = datetime(2026, 6, 15, 12, tzinfo=UTC).timestamp()

    assert parse_as_of("2026-06-15/only", clock=lambda: noon).only
    assert parse_as_of("2026-06-15", clock=lambda: noon) == parse_as_of("2026-06-15")
    for future in ("2026-06-16", "2026-06-15T12-01", "2026-07"):
        with pytest.raises(ValueError, match=future):
            parse_as_of(future, clock=lambda: noon)
    with pytest.raises(ValueError, match="2026-06-15"):
        parse_as_of("2026-06-15", clock=lambda: noon - 86400)
