"""Looks up the TCP connections of processes to other machines in `/proc` (Linux).

The kernel takes some ms to write its tables, however few connections there are: they are read only where a process has
a socket that may have been connected since.
"""

from __future__ import annotations

import ipaddress
import re
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

NEW: Final = 20
"""Looks for which a socket counts as new: most are connected as soon as they exist."""
READ_INTERVAL: Final = 1.0
"""Seconds after which the tables are read for older sockets that have no connection yet."""


class ConnectionSampler:
    """Finds connections, each as long as the process has the socket; `stopwatch` returns s, and is monotonic."""

    def __init__(self, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._stopwatch = stopwatch
        self._looks: Counter[str] = Counter()
        """How often each socket without a connection was looked up, by inode."""
        self._connected: set[str] = set()
        """The sockets whose connections are known, by inode."""
        self._read_at: dict[str, float] = {}

    def look(self, processes: Collection[int]) -> list[tuple[str, int]]:
        """Return address and port of the servers that processes have new TCP connections to, or are about to."""
        found: list[tuple[str, int]] = []
        namespaces = _sockets(processes)
        current = {inode for _, inodes in namespaces.values() for inode in inodes}
        self._connected &= current
        self._looks = Counter({inode: looks for inode, looks in self._looks.items() if inode in current})
        for name, (folder, inodes) in namespaces.items():
            if waiting := inodes - self._connected:
                is_any_new = any(self._looks[inode] < NEW for inode in waiting)
                self._looks.update(waiting)
                if is_any_new or self._stopwatch() - self._read_at.get(name, float("-inf")) >= READ_INTERVAL:
                    self._read_at[name] = self._stopwatch()
                    found += self._read(folder, waiting)
        return found

    def _read(self, folder: Path, inodes: Collection[str]) -> Iterator[tuple[str, int]]:
        """Return the servers of sockets, from the tables of the network namespace of a process."""
        for table in ("tcp", "tcp6"):
            for line in _table(folder / "net" / table).splitlines()[1:]:
                fields = line.split()
                if len(fields) > _INODE and fields[_INODE] in inodes and fields[_STATE] in _CONNECTED:
                    self._connected.add(fields[_INODE])
                    address, port = _parse(fields[_REMOTE])
                    if not address.is_loopback and not address.is_unspecified:
                        yield str(address), port


def _sockets(processes: Collection[int]) -> dict[str, tuple[Path, set[str]]]:
    """Return, for each network namespace, the folder of one of its processes, and the inodes of all their sockets."""
    found: dict[str, tuple[Path, set[str]]] = {}
    for process in processes:
        folder = Path("/proc") / str(process)
        inodes: set[str] = set()
        with suppress(OSError):  # it may end meanwhile
            namespace = str((folder / "ns" / "net").readlink())
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):
                    if socket := _SOCKET.fullmatch(str(descriptor.readlink())):
                        inodes.add(socket[1])
            if inodes:
                found[namespace] = folder, inodes | (found[namespace][1] if namespace in found else set())
    return found


def _table(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:  # the process has ended, or there is no IPv6
        return ""


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
