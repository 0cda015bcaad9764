"""Observes the programs of a run: connections that bypass the proxy, and versions of the packages that they import.

Python programs report both, by a `sitecustomize` that they import at their start. Connections of other programs are
looked up in `/proc` (Linux), now and then: short ones may be missed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.run.child import descendants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator

VARIABLE: Final = "ODA_PROXY_RUN_LOG"
"""The variable with the file to which Python programs report."""
INTERVAL: Final = 0.25
"""Seconds between two looks at the connections of the other programs."""
MAX_LOG: Final = 1024 * 1024
"""Bytes of the reports that are read."""

_HOOK: Final = '''"""Reports connections past the proxy of a recorded run, and packages; then runs what it replaces."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def _report_connections(log):
    last, seen = [""], set()
    stream, files = 1, os  # SOCK_STREAM; globals are gone when the interpreter ends

    def hook(event, arguments):
        if event == "socket.getaddrinfo":
            last[0] = arguments[0] if isinstance(arguments[0], str) else ""
        elif event == "socket.connect":
            connection, address = arguments
            if not isinstance(address, tuple) or getattr(connection, "type", stream) & 15 != stream:
                return
            host = str(address[0])
            line = "connection %s %s %d\\n" % (last[0] or host, host, address[1])
            if host.startswith("127.") or host in ("localhost", "::1", "0.0.0.0", "::") or line in seen:
                return
            seen.add(line)
            _append(log, line, files)

    sys.addaudithook(hook)


def _append(log, text, os):
    try:
        file = os.open(log, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, text.encode("utf-8", "replace"))
        finally:
            os.close(file)
    except OSError:
        pass


def _report_packages(log):
    import atexit

    def report():
        if issubclass(getattr(sys, "last_type", None) or Exception, KeyboardInterrupt):
            return  # the imports below would have the interpreter forget that SIGINT ends it
        files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
        if not any("site-packages" in file or "dist-packages" in file for file in files):
            return
        try:
            from importlib.metadata import packages_distributions, version

            names = {name.partition(".")[0] for name in list(sys.modules)}
            found = {one for name, those in packages_distributions().items() if name in names for one in those}
            lines = ["package %s %s\\n" % (name, version(name)) for name in sorted(found)]
        except Exception:  # of an interpreter that we do not know
            return
        lines.append("python %d.%d.%d\\n" % sys.version_info[:3])
        _append(log, "".join(lines), os)

    atexit.register(report)


def _run_replaced():
    here = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path or ".") != here])
    if spec is not None and spec.loader is not None:
        sys.modules["sitecustomize"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


_is_first = not hasattr(sys, "_oda_proxy_observes")  # another sitecustomize may run this one again
sys._oda_proxy_observes = True
if _is_first and os.environ.get("ODA_PROXY_RUN_LOG") and hasattr(sys, "addaudithook"):
    _report_connections(os.environ["ODA_PROXY_RUN_LOG"])
    _report_packages(os.environ["ODA_PROXY_RUN_LOG"])
if _is_first:
    _run_replaced()
'''


class RunMonitor:
    """Collects what the programs of a run report, and looks up the connections of the others."""

    def __init__(self, python_path: Path) -> None:
        """Write the hook into a folder of modules, which Python programs import before any other."""
        (python_path / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
        self._log = python_path.with_name("reports.txt")
        self._log.touch()
        self._found: dict[tuple[str, int], str] = {}

    @property
    def variables(self) -> dict[str, str]:
        """The variables for the programs of the run."""
        return {VARIABLE: str(self._log)}

    @property
    def connections(self) -> tuple[str, ...]:
        """The servers that programs connected to, or tried to, as `host:port`; sorted."""
        for words in self._reports():
            match words:
                case ["connection", name, address, port] if port.isdigit():
                    self._found[address, int(port)] = name
        return tuple(sorted({f"{name}:{port}" for (_, port), name in self._found.items()}))

    @property
    def packages(self) -> dict[str, list[str]]:
        """The versions of the packages that Python programs imported, by name; that of Python as `python`."""
        found: dict[str, set[str]] = {}
        for words in self._reports():
            match words:
                case ["package", name, version]:
                    found.setdefault(name, set()).add(version)
                case ["python", version]:
                    found.setdefault("python", set()).add(version)
        return {name: sorted(versions) for name, versions in sorted(found.items())}

    def _reports(self) -> Iterator[list[str]]:
        with self._log.open("rb") as stream:
            lines = stream.read(MAX_LOG).decode("utf-8", "replace").splitlines()
        return (line.split(" ") for line in lines)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look at the connections of all descendants of this process, until the block ends."""
        task = asyncio.create_task(self._watch()) if sys.platform == "linux" else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            for address, port in await asyncio.to_thread(lambda: list(remote_servers(descendants()))):
                self._found.setdefault((address, port), address)
            await asyncio.sleep(INTERVAL)


def remote_servers(processes: Collection[int]) -> Iterator[tuple[str, int]]:
    """Return address and port of the servers on other machines that processes have TCP connections to (Linux)."""
    inodes: set[str] = set()
    tables: dict[str, str] = {}
    for process in processes:
        folder = Path("/proc") / str(process)
        with suppress(OSError):  # it may end meanwhile
            namespace = str((folder / "ns" / "net").readlink())
            for name in ("tcp", "tcp6"):
                if f"{namespace}/{name}" not in tables:
                    tables[f"{namespace}/{name}"] = (folder / "net" / name).read_text()
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):
                    if found := _SOCKET.fullmatch(str(descriptor.readlink())):
                        inodes.add(found[1])
    for table in tables.values():
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) > _INODE and fields[_INODE] in inodes and fields[_STATE] in _CONNECTED:
                address, port = _parse(fields[_REMOTE])
                if not address.is_loopback and not address.is_unspecified:
                    yield str(address), port


_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_REMOTE, _STATE, _INODE = 2, 3, 9
"""Columns of `/proc/net/tcp`."""
_CONNECTED: Final = frozenset({"01", "02", "04", "05", "06", "08"})
"""All states of a connection that was opened to a server, but LISTEN, SYN_RECV and CLOSE."""


def _parse(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Parse an address of `/proc/net/tcp`: words of 32 bits in the byte order of the machine, and the port."""
    digits, _, port = text.partition(":")
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address, int(port, 16)
