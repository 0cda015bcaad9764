"""The source of the `sitecustomize` by which the Python programs of a run report what they do.

Each report is a line of words that are separated by tabs, the first of which is the process:

    PID  program     VERSION NAME...      the version of Python, and names by which the program may have been started
    PID  path        FOLDER               an entry of its import path
    PID  module      NAME                 a top-level module that it imports, unless it belongs to Python
    PID  connection  NAME ADDRESS PORT    a TCP connection to another machine
    PID  started     NAME                 a program that it starts

A report is written at once: a program that is killed has reported until then. The module must run in every Python from
3.6 on, and must not change what a program does.
"""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "ODA_PROXY_RUN_LOG"
"""The variable with the file to which the programs report."""

SOURCE: Final = '''"""Reports what this program of a recorded run does; then runs the sitecustomize that it replaces."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def _observe(log):
    own_modules = frozenset(getattr(sys, "stdlib_module_names", ())) | {"sitecustomize", "usercustomize", "__main__"}
    reported, modules, looked_up = set(), set(), [""]
    stream, flags = 1, os.O_WRONLY | os.O_APPEND  # SOCK_STREAM
    os_open, os_write, os_close, getpid, fsdecode = os.open, os.write, os.close, os.getpid, os.fsdecode
    basename, loaded, import_path = os.path.basename, sys.modules, sys  # globals are gone when the interpreter ends

    def report(*words):
        if words in reported or any("\\t" in word or "\\n" in word for word in words):
            return
        reported.add(words)
        line = "\\t".join((str(getpid()),) + words) + "\\n"
        try:
            file = os_open(log, flags)
            try:
                os_write(file, line.encode("utf-8", "surrogateescape"))
            finally:
                os_close(file)
        except OSError:
            pass

    def on_import(name, *_):
        name = name.partition(".")[0]
        if name in modules:
            return
        modules.add(name)
        if name not in own_modules:
            for folder in list(import_path.path):
                if isinstance(folder, str):
                    report("path", folder)
            report("module", name)

    def on_look_up(host, *_):
        looked_up[0] = host if isinstance(host, str) else ""

    def on_connect(connection, address):
        if not isinstance(address, tuple) or getattr(connection, "type", stream) & 15 != stream:
            return
        host = str(address[0])
        if not host.startswith("127.") and host not in ("localhost", "::1", "0.0.0.0", "::"):
            report("connection", looked_up[0] or host, host, str(address[1]))

    def on_start(executable, *_):
        report("started", basename(fsdecode(executable)))

    def on_shell(*_):
        report("started", "sh")

    handlers = {
        "import": on_import,
        "socket.getaddrinfo": on_look_up,
        "socket.connect": on_connect,
        "subprocess.Popen": on_start,
        "os.exec": on_start,
        "os.posix_spawn": on_start,
        "os.system": on_shell,
    }

    def hook(event, arguments):
        if event in handlers:
            try:
                handlers[event](*arguments)
            except Exception:  # it would stop what the program does
                pass

    def begin():
        reported.clear()
        names = [basename(word) for word in getattr(sys, "orig_argv", [sys.executable or ""])[:2]]
        report("program", "%d.%d.%d" % sys.version_info[:3], *names)

    begin()
    for name in list(loaded):
        on_import(name)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=begin)
    sys.addaudithook(hook)


def _run_replaced():
    here = os.path.dirname(os.path.abspath(__file__))
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if os.path.abspath(path or ".") != here])
    if spec is not None and spec.loader is not None:
        sys.modules["sitecustomize"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


_is_first = not hasattr(sys, "_oda_proxy_observes")  # another sitecustomize may run this one again
sys._oda_proxy_observes = True
if _is_first and os.environ.get("ODA_PROXY_RUN_LOG") and hasattr(sys, "addaudithook"):
    _observe(os.environ["ODA_PROXY_RUN_LOG"])
if _is_first:
    _run_replaced()
'''
