"""The tables of several upstreams in the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oda_proxy.commands.serve_options import resolve_serve
from oda_proxy.config.options import STORE
from oda_proxy.config.sources import resolve_options
from oda_proxy.errors import UsageError
from oda_proxy.files.config_file import FILE

TWO = """
cache-dir = "all"
max-jobs = 8
memory = "100MB"
lifetime = ["polar/*=never"]
[upstream.production]
url = "https://production.example/"
prefix = "/"
former-urls = ["http://production.example"]
[upstream.staging]
url = "https://staging.example"
max-jobs = 2
lifetime = "isgri/*=1"
offline = true
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def resolved(text: str, flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> dict[str, Any]:
    Path(FILE).write_text(text)
    return resolve_serve(flags or {}, environ or {}, None, warn=pytest.fail)


def store_options(flags: dict[str, Any], environ: dict[str, str] | None = None) -> dict[str, Any]:
    return resolve_options(STORE, flags, environ or {}, None, warn=pytest.fail)


def test_each_upstream_has_the_options_of_its_table_and_else_those_of_the_server() -> None:
    production, staging = resolved(TWO)["upstreams"]

    assert (production.name, production.prefix, production.upstream) == ("production", "", "https://production.example")
    assert (staging.name, staging.prefix, staging.upstream) == ("staging", "/staging", "https://staging.example")
    assert production.former_url == ("http://production.example",)
    assert (production.max_jobs, staging.max_jobs) == (8, 2)
    assert (production.offline, staging.offline) == (False, True)
    assert [rule.instrument for one in (production, staging) for rule in one.lifetime] == ["polar", "isgri"]
    assert {one.cache_dir for one in (production, staging)} == {Path("all")}


def test_the_memory_of_the_server_is_shared() -> None:
    assert [one.memory for one in resolved(TWO)["upstreams"]] == [50_000_000, 50_000_000]
    upstreams = resolved(TWO.replace("offline = true", 'memory = "7MB"'))["upstreams"]
    assert [one.memory for one in upstreams] == [50_000_000, 7_000_000]


def test_a_flag_and_the_environment_apply_to_all_upstreams() -> None:
    upstreams = resolved(TWO, {"max-jobs": "3"}, {"ODA_PROXY_MAX_RATE": "7"})["upstreams"]

    assert [(one.max_jobs, one.max_rate) for one in upstreams] == [(3, 7.0), (3, 7.0)]


@pytest.mark.parametrize("name", ["staging", "https://staging.example/"])
def test_one_upstream_is_chosen_by_its_name_or_its_address(name: str) -> None:
    values = resolved(TWO, {"upstream": name})

    assert values["upstream"] == "https://staging.example"
    assert values["max-jobs"] == 2
    assert "upstreams" not in values


def test_another_address_has_the_options_of_the_server() -> None:
    values = resolved(TWO, {}, {"ODA_PROXY_UPSTREAM": "http://other.example"})

    assert (values["upstream"], values["max-jobs"]) == ("http://other.example", 8)


def test_a_command_works_on_the_store_of_the_upstream_that_is_named() -> None:
    Path(FILE).write_text(TWO)

    assert store_options({"upstream": "staging"})["upstream"] == "https://staging.example"
    assert store_options({}, {"ODA_PROXY_UPSTREAM": "production"}) == {
        "upstream": "https://production.example",
        "former-url": ("http://production.example",),
        "cache-dir": Path("all"),
        "store": None,
    }
    assert store_options({})["upstream"] == "https://production.example"  # it has the prefix /


def test_a_command_that_works_on_one_store_asks_for_its_name() -> None:
    Path(FILE).write_text(TWO.replace('prefix = "/"\n', ""))

    with pytest.raises(UsageError, match="several upstreams: choose one with --upstream: production, staging"):
        store_options({})


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("url =", "adress =", r"\[upstream.production\] .* unknown option 'adress'"),
        ("max-jobs = 2", "workers = 2", "unknown option 'workers', which is one of the whole server: write it above"),
        (
            "max-jobs = 2",
            "max-jobs = 0",
            rf"max-jobs in \[upstream.staging\] of {FILE} must be a number from 1, not '0'",
        ),
        ('url = "https://staging.example"', "", r'\[upstream.staging\] .* has no url: write url = "https://..."'),
        ('"https://staging.example"', '"staging"', r"url in \[upstream.staging\] of .* must be an http"),
        ("[upstream.staging]", "[upstream.Staging]", "a name has up to 40 lower-case letters"),
        ("[upstream.staging]", "[upstream]\nx = 1\n[upstream.staging]", "x in .* is outside the table of an upstream"),
        ("max-jobs = 2", 'prefix = "/"', "have the prefixes / and /, and one path would belong to both"),
        ("max-jobs = 2", 'prefix = "/production"', ""),
        ("max-jobs = 2", 'prefix = "staging"', "must be / or a path such as /staging"),
        ("max-jobs = 2", 'prefix = "/-/staging"', "must be / or a path such as /staging"),
        ("max-jobs = 2", 'prefix = "/a/../b"', "must be / or a path such as /staging"),
        ("max-jobs = 2", 'prefix = "/run_analysis"', "hides /run_analysis of a dispatcher"),
        ("max-jobs = 2", 'prefix = "/api"', "hides /api/instr-list of a dispatcher"),
        ("max-jobs = 2", 'prefix = "/tap/x"', "hides /tap of a dispatcher"),
        ("max-jobs = 2", 'prefix = "/dispatch-data"', "hides /dispatch-data of a dispatcher"),
        ("https://staging.example", "https://PRODUCTION.example", "both have the recordings in"),
        ("https://staging.example", "http://production.example", "both have the recordings in"),
        ("max-jobs = 2", 'former-urls = ["https://production.example"]', "both have the recordings in"),
        ("max-jobs = 2", 'former-urls = ["https://staging.example"]', "https://staging.example is the --upstream its"),
        ("max-jobs = 8", 'former-urls = ["http://x.example"]', "--former-url is for one upstream: write it into its"),
        ("max-jobs = 8", "mock = true", "--mock is for one upstream"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(old: str, new: str, reason: str) -> None:
    text = TWO.replace(old, new, 1) if "staging" not in old else TWO.replace(old, new)
    if not reason:
        assert len(resolved(text)["upstreams"]) == 2
        return
    with pytest.raises(UsageError, match=reason) as raised:
        resolved(text)
    assert "\n" not in str(raised.value)


def test_a_prefix_below_another_is_refused() -> None:
    with pytest.raises(UsageError, match="the prefixes /a and /a/b, and one path would belong to both"):
        resolved(TWO.replace('prefix = "/"', 'prefix = "/a"').replace("max-jobs = 2", 'prefix = "/a/b/"'))


def test_a_secret_key_in_a_table_that_others_can_read_is_remarked(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text(TWO.replace("max-jobs = 2", 'secret-key = "hush-hush"'))
    file.chmod(0o644)
    warnings: list[str] = []

    resolve_serve({}, {}, file, warn=warnings.append)

    assert len(warnings) == 1
    assert "hush-hush" not in warnings[0]
    assert "run chmod 600" in warnings[0]
