"""Options that a running server takes over."""

from __future__ import annotations

import json
import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.access.authentication import Authentication, Secret
from oda_proxy.access.client_limits import ClientLimiter, ClientLimits
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.config.options import SERVE
from oda_proxy.config.settings import ServeOptions
from oda_proxy.config.sources import resolve_options
from oda_proxy.errors import UsageError
from oda_proxy.handlers.policy import Policy
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.freshness import Rule
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.throttling import ThrottledUpstream
from oda_proxy.web.log_formats import JsonFormatter
from oda_proxy.web.own_routes import Guard
from oda_proxy.web.reloading import RELOADABLE, ReloadableProxy, Reloads
from oda_proxy.web.server_state import ServerState
from tests.support.dispatcher_responses import SESSION, answer
from tests.support.scripted_upstream import Clock, Script, request

if TYPE_CHECKING:
    from pathlib import Path


TOKEN = "12345678"  # noqa: S105 - of a test


@pytest.fixture
def options(tmp_path: Path) -> ServeOptions:
    (tmp_path / "empty.toml").touch()
    values = resolve_options(SERVE, {}, {}, tmp_path / "empty.toml", warn=pytest.fail)
    return ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(JsonFormatter(b"").format(record)) for record in caplog.records]


def reload(before: ServeOptions, after: ServeOptions, caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    with caplog.at_level(logging.INFO):
        Reloads(before, lambda: after).reload()
    return logged(caplog)


def test_the_options_that_can_change_exist() -> None:
    assert {one.name for one in fields(ServeOptions)} >= RELOADABLE


def test_each_change_is_one_line_with_its_value(options: ServeOptions, caplog: pytest.LogCaptureFixture) -> None:
    after = replace(options, max_jobs=3, lifetime=(Rule("polar", "*", 86400.0),), port=8500, former_url=())
    lines = reload(options, after, caplog)

    assert [line["message"] for line in lines] == [
        "--port is 8500 takes effect after a restart",
        "--max-jobs is 3",
        f"--lifetime is {after.lifetime[0]}",
        "the configuration was read again",
    ]
    assert {line["event"] for line in lines} == {"reload"}
    assert (lines[-1]["changed"], lines[-1]["after_restart"]) == (["max_jobs", "lifetime"], ["port"])


@pytest.mark.parametrize("name", ["admin_token", "read_token", "secret_key"])
def test_a_secret_is_not_shown(options: ServeOptions, name: str, caplog: pytest.LogCaptureFixture) -> None:
    secret: dict[str, Any] = {name: "the-secret-of-all"}
    lines = reload(options, replace(options, **secret), caplog)

    assert f"--{name.replace('_', '-')} has another value" in lines[0]["message"]
    assert "the-secret-of-all" not in str(lines)


def test_options_that_are_not_valid_change_nothing(options: ServeOptions, caplog: pytest.LogCaptureFixture) -> None:
    def read() -> ServeOptions:
        raise UsageError("the configuration is not valid")

    reloads = Reloads(options, read)
    reloads.register(lambda *_: pytest.fail("nothing is to be applied"))
    reloads.reload()

    (line,) = logged(caplog)
    assert line["message"] == "the configuration stays as it was: the configuration is not valid"


def test_upstreams_are_compared_by_their_names(options: ServeOptions, caplog: pytest.LogCaptureFixture) -> None:
    one, two = (replace(options, name=name, upstream=f"http://{name}.example") for name in ("one", "two"))
    before = replace(options, upstreams=(one, two))
    upstreams = (replace(one, max_rate=9.0), replace(two, max_rate=9.0, max_jobs=2))
    changed = replace(before, max_rate=9.0, upstreams=upstreams)
    lines = reload(before, changed, caplog)
    assert [line["message"] for line in lines[:-1]] == ["--max-rate is 9.0", "--max-jobs of two is 2"]

    caplog.clear()
    lines = reload(before, replace(before, upstreams=(one,)), caplog)
    assert lines[0]["message"] == "--upstreams is one takes effect after a restart"


async def test_a_proxy_takes_over_limits_tokens_and_lifetimes(options: ServeOptions) -> None:
    clock = Clock()
    upstream = ThrottledUpstream(Script().then(answer()).then(answer()), max_concurrent=32, rate=1000.0)
    proxy = Proxy(MemoryStore(clock=clock), upstream, Policy(), runtime=Runtime(clock=clock))
    state, guard = ServerState(), Guard(Authentication(), HostPolicy())
    reloadable = ReloadableProxy("", proxy, state, guard)
    await proxy.answer(request(), origin="http://proxy.example")
    clock.now += 3600.0
    assert (await proxy.answer(request(), origin="http://proxy.example")).cache_status.hit

    rule = Rule("*", "*", 60.0)
    limits: dict[str, Any] = {"max_jobs": 3, "max_requests": 5, "max_size": 7, "min_free": 1}
    after = replace(options, lifetime=(rule,), admin_token=TOKEN, **limits)
    reloads = Reloads(options, lambda: after)
    reloads.register(reloadable.apply)
    reloads.reload()

    assert (proxy.jobs.max_jobs, upstream.max_concurrent) == (3, 5)
    assert state.limits is not None
    assert (state.limits.max_size, state.limits.min_free) == (7, 1)
    assert guard.authentication.tokens.admin == Secret(TOKEN)
    assert (await proxy.answer(request(who=SESSION), origin="http://proxy.example")).cache_status.forwarded == "stale"
    await proxy.close()


@pytest.mark.parametrize("before", [None, 1.0])
async def test_limits_of_clients_change_where_there_were_some(
    options: ServeOptions, before: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    first = replace(options, client_rate=before)
    limiter = ClientLimiter(ClientLimits(before), lambda: 0.0) if before else None
    guard = Guard(Authentication(), HostPolicy(), limiter)
    reloads = Reloads(first, lambda: replace(first, client_rate=50.0))
    reloads.register(ReloadableProxy("", Proxy(MemoryStore(), None, Policy()), ServerState(), guard).apply)
    with caplog.at_level(logging.INFO):
        reloads.reload()

    if limiter is None:
        assert logged(caplog)[0]["message"] == "--client-rate is 50.0 takes effect after a restart"
    else:
        assert logged(caplog)[0]["message"] == "--client-rate is 50.0"
        assert [limiter.admit("another client") for _ in range(100)] == [None] * 100
        assert limiter.admit("another client") is not None
