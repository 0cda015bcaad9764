"""The options of `serve` for several upstreams: each has the options of its table, and the rest of the server.

Prefixes and folders are checked: no request may reach two upstreams, and no recording belong to two.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.config.folders import cache_folder, former_folders
from oda_proxy.config.options import SERVE
from oda_proxy.config.settings import ServeOptions
from oda_proxy.config.sources import read_file, resolve_options, values_from
from oda_proxy.errors import UsageError
from oda_proxy.files.config_file import PREFIX
from oda_proxy.http import routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from oda_proxy.files.config_file import ConfigFile

_SEGMENT: Final = r"[A-Za-z0-9_~][A-Za-z0-9._~-]{0,39}"
_PREFIX: Final = re.compile(rf"(?:/{_SEGMENT}){{1,8}}")
_OF_ONE: Final = ("former-url",)
"""Options of an upstream that cannot be those of all."""


def resolve_serve(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None, *, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Return the value of every option of `serve`; `upstreams` are the options of each of several upstreams.

    With `--upstream`, the name of a table or an address, there is only one. Raises UsageError.
    """
    config_file = read_file(file)
    upstream = next(option for option in SERVE if option.name == "upstream")
    if not config_file.upstreams or flags.get(upstream.name) is not None or upstream.variable in environ:
        return resolve_options(SERVE, flags, environ, file, warn=warn)
    warnings: dict[str, None] = {}
    values = values_from(SERVE, flags, environ, config_file, warn=warnings.setdefault)
    if values["mock"]:
        raise UsageError(f"--mock is for one upstream, and {config_file.path} has several: choose one with --upstream")
    if of_one := next((name for name in _OF_ONE if values[name]), None):
        raise UsageError(f"--{of_one} is for one upstream: write it into its table in {config_file.path}")
    upstreams = []
    for name in config_file.upstreams:
        of_table = config_file.with_upstream(name)
        own = values_from(SERVE, flags, environ, of_table, warn=warnings.setdefault)
        options = {key.replace("-", "_"): value for key, value in own.items()}
        if "memory" not in config_file.upstreams[name]:
            options["memory"] = values["memory"] // len(config_file.upstreams)
        prefix = _prefix(config_file, name)
        upstreams.append(ServeOptions(**options, name=name, prefix=prefix))
    _check_prefixes(upstreams, config_file)
    _check_folders(upstreams, config_file)
    for warning in warnings:
        warn(warning)
    return {**values, "upstreams": tuple(upstreams)}


def _prefix(config_file: ConfigFile, name: str) -> str:
    """Return the prefix of an upstream, `/NAME` by default, as the beginning of a path. Raises UsageError."""
    text = str(config_file.upstreams[name].get(PREFIX, f"/{name}"))
    if text == "/":
        return ""
    where = f"prefix in [upstream.{name}] of {config_file.path}"
    prefix = text.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{where} must be / or a path such as /staging, of letters, digits and . _ ~ - within it, not {text!r}"
        )
    if collision := _route_below(prefix):
        raise UsageError(f"{where}, {text!r}, hides /{collision} of a dispatcher: choose another, such as /{name}-site")
    return prefix


def _route_below(prefix: str) -> str | None:
    """Return a route of the dispatcher whose path would be that of an upstream; None if there is none."""
    path = prefix.removeprefix("/")
    if path.split("/")[0] == routes.MOUNT:
        return routes.MOUNT
    for name in sorted(routes.ALL_ROUTES):
        if f"{name}/".startswith(f"{path}/") or f"{path}/".startswith(f"{name}/"):
            return name
    return None


def _check_prefixes(upstreams: Iterable[ServeOptions], config_file: ConfigFile) -> None:
    """Check that no path belongs to two upstreams, but for that with the prefix `/`. Raises UsageError."""
    seen: list[ServeOptions] = []
    for one in upstreams:
        for other in seen:
            short, long = sorted((one.prefix, other.prefix), key=len)
            if short == long or (short and f"{long}/".startswith(f"{short}/")):
                raise UsageError(
                    f"[upstream.{other.name}] and [upstream.{one.name}] of {config_file.path} have the prefixes "
                    f"{other.prefix or '/'} and {one.prefix or '/'}, and one path would belong to both"
                )
        seen.append(one)


def _check_folders(upstreams: Iterable[ServeOptions], config_file: ConfigFile) -> None:
    """Check that no folder of recordings belongs to two upstreams. Raises UsageError."""
    claims: dict[Path, str] = {}
    for one in upstreams:
        try:
            former = former_folders(one.cache_dir, one.upstream, one.former_url)
        except UsageError as error:
            raise UsageError(f"[upstream.{one.name}] of {config_file.path}: {error}") from error
        for folder in (cache_folder(one.cache_dir, one.upstream), *former):
            if other := claims.get(folder.resolve()):
                raise UsageError(
                    f"[upstream.{other}] and [upstream.{one.name}] of {config_file.path} both have the recordings in "
                    f"{folder}: one url, or one of the former-urls, is in both"
                )
            claims[folder.resolve()] = one.name
