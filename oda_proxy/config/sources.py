"""Finds the values of options on the command line, in the environment and in the configuration file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from oda_proxy.config.options import MOCK, OF_UPSTREAM, SECRETS, SERVE, STORE_URL, UPSTREAM, Option
from oda_proxy.errors import InvalidPartError, UsageError
from oda_proxy.files.config_file import PREFIX, URL, read_config_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from oda_proxy.files.config_file import ConfigFile


def resolve_options(
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
    """Return the value of every option, as `resolve_options`, from a configuration that was read."""
    from_file = config_file.options
    for secret in SECRETS:
        if secret in options and secret.key in from_file:
            _check_mode(config_file.path, secret.key, warn)
    if STORE_URL in options and "@" in str(from_file.get(STORE_URL.key, "")):
        _check_mode(config_file.path, f"{STORE_URL.key} URL with credentials", warn)
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
    text = flags.get(UPSTREAM.name) or environ.get(UPSTREAM.variable)
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
    of_upstream = next((option for option in options if option.name == UPSTREAM.name), None)
    if not config_file.upstreams or of_upstream is None:
        return config_file, flags, environ
    name = chosen_upstream(config_file, flags, environ)
    is_named = flags.get(UPSTREAM.name) is not None or UPSTREAM.variable in environ
    if name is None or (of_upstream.default is None and not is_named):
        return config_file, flags, environ
    if not name:
        names = ", ".join(config_file.upstreams)
        raise UsageError(f"{config_file.path} has several upstreams: choose one with --upstream: {names}")
    flags = {key: value for key, value in flags.items() if key != UPSTREAM.name}
    environ = {key: value for key, value in environ.items() if key != UPSTREAM.variable}
    return config_file.with_upstream(name), flags, environ


def value_of(option: Option, value: Any, source: str) -> Any:
    """Parse the value of an option: text, number or boolean. Raises UsageError, which names its `source`."""
    if option.many:
        return tuple(_parsed(option, one, source) for one in (value if isinstance(value, list | tuple) else [value]))
    return _parsed(option, value, source)


def _parsed(option: Option, value: Any, source: str) -> Any:
    try:
        return option.read(str(value))
    except InvalidPartError as error:
        raise UsageError(f"{source} {error}") from None
    except ValueError:
        is_secret = option in SECRETS or "@" in str(value)  # the part before @ may be a password
        shown = f", not {str(value)!r}" if not is_secret or not str(value).strip() else ""
        raise UsageError(f"{source} must be {option.expects}{shown}") from None


def _check_mode(file: Path, secret: str, warn: Callable[[str], None]) -> None:
    """Warn if other users can read a file with a secret."""
    mode = file.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        article = "an" if secret.startswith("a") else "a"
        warn(f"{file} has {article} {secret}, and other users can read it (mode {mode:04o}): run chmod 600 {file}")
