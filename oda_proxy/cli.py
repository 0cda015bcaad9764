"""The command line: reads options, builds what they ask for, says in one line what went wrong."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from oda_proxy import config
from oda_proxy._version import __version__
from oda_proxy.commands import diff_arguments, query_arguments, run_arguments, store_arguments
from oda_proxy.errors import OdaProxyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from oda_proxy.config import Option


class _Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


class _Command(_Parser):
    """The parser of one command: options may stand before, between and behind other arguments."""

    _is_intermixing = False

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse all arguments: what is left over is wrong. Raises UsageError."""
        if self._is_intermixing:  # argparse calls this to do its part
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True
        try:
            found, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status: 0 done, 1 failed, 2 wrong usage."""
    try:
        words, program = run_arguments.split(sys.argv[1:] if argv is None else argv)
        arguments = parser().parse_args(words)
        if program:
            arguments.program = program
        values = config.resolve(arguments.options, vars(arguments), os.environ, arguments.config)
        command: Callable[[dict[str, Any]], int] = arguments.command
        said = {name: getattr(arguments, name) for name in arguments.own}
        status = command({name.replace("-", "_"): value for name, value in values.items()} | said)
        sys.stdout.flush()
    except OdaProxyError as error:
        print(f"oda-proxy: {error}", file=sys.stderr)  # noqa: T201 - the one line for a person
        return error.exit_status
    except BrokenPipeError:  # whoever read has enough, as in `oda-proxy ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is flushed at the end has nowhere to go
        return 1
    except KeyboardInterrupt:
        return 130  # what shells expect of a program that was interrupted
    return status


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line; it raises UsageError where argparse would end the program."""
    all_commands = _Parser(prog="oda-proxy", description="Caching proxy and mock dispatcher for ODA/MMODA.")
    all_commands.add_argument("--version", action="version", version=f"oda-proxy {__version__}")
    commands = all_commands.add_subparsers(metavar="COMMAND", required=True, parser_class=_Command)
    _add(commands, "serve", _serve, config.SERVE, "run the caching proxy")
    _add(commands, "mock", _mock, config.MOCK, "run the mock dispatcher")
    store_arguments.add_to(partial(_add, commands))
    query_arguments.add_to(partial(_add, commands))
    run_arguments.add_to(partial(_add, commands))
    diff_arguments.add_to(partial(_add, commands))
    return all_commands


def _add(
    commands: Any, name: str, command: Callable[[dict[str, Any]], int], options: tuple[Option, ...], about: str
) -> _Own:
    """Add a command with its options; their text is read where all sources of options are.

    What is returned adds arguments that belong to one call and are no option: they come from the command line alone.
    """
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    for option in options:
        usual = "" if option.default in (None, False, ()) else f" (default {option.default})"
        told = {"dest": option.name, "default": None, "help": f"{option.help}{usual}"}
        if isinstance(option.default, bool):
            parser.add_argument(option.flag, action="store_const", const="yes", **told)
        else:
            action = "append" if option.many else "store"
            parser.add_argument(option.flag, action=action, metavar=option.metavar, **told)
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"configuration (default {config.FILE}, if there)")
    parser.set_defaults(command=command, options=options, own=())
    return _Own(parser)


class _Own:
    """The arguments of a command that are no options."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._names: tuple[str, ...] = ()

    def add(self, *flags: str, **told: Any) -> _Own:
        """Add one, as argparse does."""
        self._names = (*self._names, self._parser.add_argument(*flags, **told).dest)
        self._parser.set_defaults(own=self._names)
        return self


def _serve(values: dict[str, Any]) -> int:
    """Run the proxy until it is told to stop."""
    from oda_proxy.servers import serve  # commands that need no server start without one

    return _run(serve(config.ServeOptions(**values)))


def _mock(values: dict[str, Any]) -> int:
    """Run the mock dispatcher until it is told to stop."""
    from oda_proxy.servers import mock

    return _run(mock(config.MockOptions(**values)))


def _run(server: Coroutine[Any, Any, None]) -> int:
    """Run a server, with a log on standard error."""
    import asyncio
    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    asyncio.run(server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
