"""Observes the programs of a run: connections that bypass the proxy, and versions of the packages that they import.

Python programs report both, by a `sitecustomize` that they import at their start (`program_hook`). The connections of
other programs are looked up in `/proc` (Linux), some times a second: short ones may be missed. The kernel reports the
end of every connection to anybody (SOCK_DIAG), but not the process that had it, so that connections of others would be
taken for those of the run.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.run import program_hook
from oda_proxy.run.child import descendants
from oda_proxy.run.distributions import find_versions
from oda_proxy.run.remote_connections import ConnectionSampler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

INTERVAL: Final = 0.05
"""Seconds between two looks at the connections of the other programs, if looking takes little time."""
MAX_SHARE: Final = 0.05
"""Share of the time of one processor that looking may take: on a machine with many connections it is less often."""
MAX_LOG: Final = 16 * 1024 * 1024
"""Bytes of the reports that are read."""
_MAX_PORT_DIGITS: Final = 5


class RunMonitor:
    """Collects what the programs of a run report, and looks up the connections of the others."""

    def __init__(self, python_path: Path) -> None:
        """Write the hook into a folder of modules, which Python programs import before any other."""
        (python_path / "sitecustomize.py").write_text(program_hook.SOURCE, encoding="utf-8")
        self._log = python_path.with_name("reports.txt")
        self._log.touch()
        self._connected: dict[tuple[str, int], str] = {}
        self._seen: dict[str, str] = {}
        """The names of the processes that were seen running, by their ids."""
        self._command = ""
        self._sampler = ConnectionSampler()

    @property
    def variables(self) -> dict[str, str]:
        """The variables for the programs of the run."""
        return {program_hook.VARIABLE: str(self._log)}

    @property
    def connections(self) -> tuple[str, ...]:
        """The servers that programs connected to, or tried to, as `host:port`; sorted."""
        for _, *words in self._reports():
            match words:
                case ["connection", name, address, port] if port.isdecimal() and len(port) <= _MAX_PORT_DIGITS:
                    self._connected[address, int(port)] = name
        return tuple(sorted({f"{name}:{port}" for (_, port), name in self._connected.items()}))

    @property
    def sampled_programs(self) -> tuple[str, ...]:
        """The names of programs whose connections were only looked up now and then, as they report none; sorted."""
        reporting, names_of_reporting, names = set(), set(), {self._command}
        for process, *words in self._reports():
            match words:
                case ["program", _, *own_names]:
                    reporting.add(process)
                    names_of_reporting |= set(own_names)
                case ["started", name]:
                    names.add(name)
        names = {name for name in names - names_of_reporting if name and not name.startswith("python")}
        return tuple(sorted(names | {name for process, name in self._seen.items() if process not in reporting}))

    @property
    def is_complete(self) -> bool:
        """Whether all reports were read."""
        return self._log.stat().st_size <= MAX_LOG

    def find_packages(self) -> dict[str, list[str]]:
        """Return the versions of the packages that Python programs imported, by name; that of Python as `python`.

        Blocks: the metadata of the packages are read.
        """
        pythons: dict[str, str] = {}
        modules: defaultdict[str, set[str]] = defaultdict(set)
        paths: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for process, *words in self._reports():
            match words:
                case ["program", python, *_]:
                    pythons[process] = python
                case ["module", name]:
                    modules[process].add(name)
                case ["path", folder] if Path(folder).is_absolute():
                    paths[process][folder] = None
        imported: defaultdict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
        for process, names in modules.items():
            imported[pythons.get(process, ""), tuple(paths[process])] |= names
        found: defaultdict[str, set[str]] = defaultdict(set)
        for (python, path), names in imported.items():
            versions = find_versions(names, path)
            for name, version in versions.items():
                found[name].add(version)
            if versions and python:
                found["python"].add(python)
        return {name: sorted(versions) for name, versions in sorted(found.items())}

    def _reports(self) -> Iterator[list[str]]:
        with self._log.open("rb") as stream:
            lines = stream.read(MAX_LOG).decode("utf-8", "surrogateescape").split("\n")
        return (line.split("\t") for line in lines)

    @asynccontextmanager
    async def watching(self, command: str) -> AsyncIterator[None]:
        """Look at the connections of all descendants of this process until the block ends, in which `command` runs."""
        self._command = Path(command).name
        task = asyncio.create_task(self._watch()) if sys.platform == "linux" else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            took = await asyncio.to_thread(self._look)
            await asyncio.sleep(max(INTERVAL, took / MAX_SHARE))

    def _look(self) -> float:
        """Note the connections and the names of all descendants; return the s of processor time that it took."""
        began = time.thread_time()
        processes = _running_descendants()
        for address, port in self._sampler.look(processes):
            self._connected.setdefault((address, port), address)
        for process in processes:
            with suppress(OSError):  # it may end meanwhile
                self._seen[str(process)] = (Path("/proc") / str(process) / "comm").read_text().strip()
        return time.thread_time() - began


def _running_descendants() -> list[int]:
    """Return the descendants of this process, without reading all processes of the machine where the kernel allows."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        folder = Path("/proc") / str(waiting.pop()) / "task"
        with suppress(OSError):  # it may end meanwhile
            for thread in folder.iterdir():
                if not (children := thread / "children").exists() and thread.exists():
                    return descendants()  # of a kernel without CONFIG_PROC_CHILDREN
                children_ids = [int(child) for child in children.read_text().split()]
                found += children_ids
                waiting += children_ids
    return found
