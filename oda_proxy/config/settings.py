"""The values of the options of each server, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.http.front_end_headers import Network
    from oda_proxy.http.scope import Scope
    from oda_proxy.store.freshness import Rule
    from oda_proxy.store.history_limits import HistoryLimits
    from oda_proxy.store.redis.address import StoreAddress


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
    store: StoreAddress | None
    max_size: int
    min_free: int
    capsule: tuple[Path, ...]
    collections: int
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
    history: HistoryLimits | None
    as_of: Scope | None
    sharing: str
    secret_key: str | None = field(repr=False)
    admin_token: str | None = field(repr=False)
    admin_token_file: Path | None
    read_token: str | None = field(repr=False)
    read_token_file: Path | None
    metrics_token_file: Path | None
    readers: str
    allowed_host: tuple[str, ...]
    drain: float
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
    store: StoreAddress | None = None

    @classmethod
    def pop(cls, values: dict[str, Any]) -> StoreOptions:
        """Take these values out of those of a command."""
        return cls(**{name: values.pop(name) for name in ("upstream", "former_url", "cache_dir", "store")})


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
    like: str | None
    save_descriptions: Path | None
    descriptions: tuple[Path, ...]
    public_instruments: bool
    dummy_instruments: bool
    dummy_release: str
    pages: tuple[Path, ...]
    job_folders: Path | None
    generation: str
    secret_key: str | None = field(repr=False)
