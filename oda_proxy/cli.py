"""The command line: parses arguments, runs one command, and prints errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from oda_proxy._version import __version__
from oda_proxy.commands import (
    argument_types,
    copy_arguments,
    diff_arguments,
    fixture_arguments,
    job_arguments,
    open_arguments,
    query_arguments,
    run_arguments,
    store_arguments,
    warm_arguments,
)
from oda_proxy.commands.output import warn
from oda_proxy.commands.serve_options import resolve_serve
from oda_proxy.commands.signals import ended_by_signals
from oda_proxy.config.options import MOCK, SERVE
from oda_proxy.config.settings import MockOptions, ServeOptions
from oda_proxy.config.sources import resolve_options
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.files.config_file import FILE, is_empty, present_file, refuse_emptied

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from oda_proxy.config.options import Option
    from oda_proxy.web.log_thread import LogSettings


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, with a message of one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


class _Command(_Parser):
    """The parser of one command: options may be before, between and after positional arguments."""

    _is_intermixing = False

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse all arguments. Raises UsageError, also for unknown arguments."""
        if self._is_intermixing:  # argparse calls this method itself
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True
        try:
            parsed, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 success, 1 failure, 2 invalid usage."""
    try:
        words, program = run_arguments.split(sys.argv[1:] if argv is None else argv)
        arguments = parser().parse_args(words)
        if program:
            arguments.program = program
        is_serve = arguments.options is SERVE
        resolve = resolve_serve if is_serve else partial(resolve_options, arguments.options)
        read_from = partial(resolve, _flags(arguments), os.environ, warn=warn)
        config = arguments.config or present_file()
        command: Callable[[dict[str, Any]], int] = arguments.command
        own = {name: getattr(arguments, name) for name in arguments.own}
        if is_serve:
            was_empty = is_empty(config)
            own["read_options"] = lambda: ServeOptions(
                **_by_name(read_from(refuse_emptied(config, was_empty=was_empty)))
            )
        with ended_by_signals():
            status = command(_by_name(read_from(config)) | own)
            sys.stdout.flush()
    except OdaProxyError as error:
        print(f"oda-proxy: {error}", file=sys.stderr)  # noqa: T201 - the message
        return error.exit_status
    except BrokenPipeError:  # the reader ended, as in `oda-proxy ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes at exit
        return 1
    except OSError as error:  # a full disk, or a file without permission, wherever it is used
        about = f"{error.filename}: " if error.filename else ""
        print(f"oda-proxy: {about}{error.strerror or error}", file=sys.stderr)  # noqa: T201 - the message
        return 1
    except KeyboardInterrupt:
        return 130  # as shells report SIGINT
    return status


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments, with `--server` before the command as one of its options. Raises UsageError."""
    flags = vars(arguments)
    server = flags.pop("server_of_command")
    if server is None:
        return flags
    if not any(option.name == "server" for option in arguments.options):
        collection = flags.get("collection")
        other = f"; download {server.rstrip('/')}/-/collections/{collection}/capsule.zip instead" if collection else ""
        raise UsageError(f"{arguments.command_name} works on this machine, and not with --server{other}")
    if flags["server"] not in {None, server}:
        raise UsageError(f"--server {server} and --server {flags['server']} name two proxies: say one of them")
    return {**flags, "server": server}


def _by_name(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of options by the names that they have in Python."""
    return {name.replace("-", "_"): value for name, value in values.items()}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; it raises UsageError where argparse would exit."""
    all_commands = _Parser(
        prog="oda-proxy", description="Caching proxy and mock dispatcher for ODA/MMODA.", allow_abbrev=False
    )
    all_commands.add_argument("--version", action="version", version=f"oda-proxy {__version__}")
    all_commands.add_argument(
        "--server",
        dest="server_of_command",
        metavar="URL",
        help="URL of a running proxy, for the commands that have this option",
    )
    commands = all_commands.add_subparsers(metavar="COMMAND", dest="command_name", required=True, parser_class=_Command)
    _add(commands, "serve", _serve, SERVE, "run the caching proxy")
    _add(commands, "mock", _mock, MOCK, "run the mock dispatcher")
    for arguments in (
        job_arguments,
        store_arguments,
        open_arguments,
        copy_arguments,
        warm_arguments,
        query_arguments,
        run_arguments,
        diff_arguments,
        fixture_arguments,
    ):
        arguments.add_commands(partial(_add, commands))
    return all_commands


def _add(
    commands: Any, name: str, command: Callable[[dict[str, Any]], int], options: tuple[Option, ...], about: str
) -> _OwnArguments:
    """Add a command with its options, which `resolve_options` parses.

    The value returned adds arguments that only the command line sets, never the environment or a file.
    """
    # An abbreviation such as rm --all, for --all-versions, would remove what was not meant.
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
    for option in options:
        default = "" if option.default in (None, False, ()) else f" (default {option.default})"
        keywords = {"dest": option.name, "default": None, "help": f"{option.help}{default}"}
        if isinstance(option.default, bool):
            parser.add_argument(option.flag, action="store_const", const="yes", **keywords)
        else:
            action = "append" if option.many else "store"
            parser.add_argument(option.flag, action=action, metavar=option.metavar, **keywords)
    parser.add_argument(
        "--config",
        type=argument_types.path,
        metavar="FILE",
        help=f"configuration file (default {FILE}, if it exists)",
    )
    parser.set_defaults(command=command, options=options, own=())
    return _OwnArguments(parser)


class _OwnArguments:
    """Adds the arguments of a command that only the command line sets."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._names: tuple[str, ...] = ()

    def add(self, *flags: str, **keywords: Any) -> _OwnArguments:
        """Add one argument, with the keywords of argparse."""
        self._names = (*self._names, self._parser.add_argument(*flags, **keywords).dest)
        self._parser.set_defaults(own=self._names)
        return self


def _serve(values: dict[str, Any]) -> int:
    """Run the proxy until a signal ends it."""
    from oda_proxy.servers.one_process import serve  # other commands do not import it
    from oda_proxy.servers.several_processes import serve_with_workers
    from oda_proxy.web.log_thread import LogSettings, log_at_once

    read_options = values.pop("read_options")
    options = ServeOptions(**values)
    log = LogSettings(options.log_file, is_json=options.log_format == "json", log_people=options.log_people)
    if options.workers == 1:
        return _run(serve(options, read_options), log)
    with log_at_once(log):
        serve_with_workers(options, read_options, log)
    return 0


def _mock(values: dict[str, Any]) -> int:
    """Run the mock dispatcher until a signal ends it."""
    from oda_proxy.servers.mock import mock

    return _run(mock(MockOptions(**values)))


def _run(server: Coroutine[Any, Any, None], log: LogSettings | None = None) -> int:
    """Run a server, which logs to standard error by default."""
    from oda_proxy.web.event_loop import run_server

    run_server(server, log)
    return 0


if __name__ == "__main__":
    sys.exit(main())
