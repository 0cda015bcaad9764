"""Connections of a command to other machines that bypass the proxy: nobody sees what they carry.

Python programs report them by an audit hook, which they get as `sitecustomize`. Those of other programs are looked up
in `/proc` (Linux), now and then: short ones may be missed.
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

VARIABLE: Final = "ODA_PROXY_BYPASS_LOG"
"""The variable with the file to which Python programs report connections."""
INTERVAL: Final = 0.25
"""Seconds between two looks at the connections of the other programs."""
MAX_LOG: Final = 1024 * 1024
"""Bytes of the reports that are read."""

_HOOK: Final = '''"""Reports connections that bypass the proxy of a recorded run; then runs what it replaces."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def _report_connections(log):
    last, seen = [""], set()
    write, append, stream = os.write, os.O_WRONLY | os.O_APPEND, 1  # SOCK_STREAM

    def hook(event, arguments):
        if event == "socket.getaddrinfo":
            last[0] = arguments[0] if isinstance(arguments[0], str) else ""
        elif event == "socket.connect":
            connection, address = arguments
            if not isinstance(address, tuple) or getattr(connection, "type", stream) & 15 != stream:
                return
            host = str(address[0])
            line = "%s %s %d\\n" % (last[0] or host, host, address[1])
            if host.startswith("127.") or host in ("localhost", "::1", "0.0.0.0", "::") or line in seen:
                return
            seen.add(line)
            try:
                file = os.open(log, append)
                try:
                    write(file, line.encode("utf-8", "replace"))
                finally:
                    os.close(file)
            except OSError:
                pass

    sys.addaudithook(hook)


def _run_replaced():
    here = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path or ".") != here])
    if spec is not None and spec.loader is not None:
        sys.modules["sitecustomize"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


if os.environ.get("ODA_PROXY_BYPASS_LOG") and hasattr(sys, "addaudithook"):
    _report_connections(os.environ["ODA_PROXY_BYPASS_LOG"])
_run_replaced()
'''


class BypassMonitor:
    """Collects the connections of the programs of a run that bypass the proxy."""

    def __init__(self, python_path: Path) -> None:
        """Write the hook into a folder of modules, which Python programs import before any other."""
        (python_path / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
        self._log = python_path.with_name("connections.txt")
        self._log.touch()
        self._found: dict[tuple[str, int], str] = {}

    @property
    def variables(self) -> dict[str, str]:
        """The variables for the programs of the run."""
        return {VARIABLE: str(self._log)}

    @property
    def connections(self) -> tuple[str, ...]:
        """The servers that programs connected to, or tried to, as `host:port`; sorted."""
        with self._log.open("rb") as stream:
            lines = stream.read(MAX_LOG).decode("utf-8", "replace").splitlines()
        for line in lines:
            match line.split(" "):
                case [name, address, port] if port.isdigit():
                    self._found[address, int(port)] = name
        return tuple(sorted({f"{name}:{port}" for (_, port), name in self._found.items()}))

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
