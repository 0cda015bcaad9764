"""Virtual environments of unmodified clients, the real dispatcher and validators, each built once and reused.

Run as a program, it builds them all. They lie in `.envs` of the checkout, or in `ODA_PROXY_TEST_ENVS`.

They are built with uv, which downloads a package once for all of them and links its files into each: ten environments
take half a minute and 1 GB instead of seven minutes and 5 GB.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.support.paths import CHECKOUT, NETWORK_GUARD

GUARD = str(NETWORK_GUARD)
"""What on `PYTHONPATH` keeps a program from reaching other machines; the installer has to reach the package index."""

ROOT = Path(os.environ.get("ODA_PROXY_TEST_ENVS") or CHECKOUT / ".envs")

# The pins with which each was tested; a client's numpy and astropy decide which pickles it can read.
NUMPY_2 = ("numpy==2.4.6", "astropy==8.0.2")
NUMPY_1 = ("numpy==1.26.4", "astropy==6.1.4")
JUPYTER = ("nbclient==0.11.0", "ipykernel==7.4.0")
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "oda_api-1.3.5": ("oda-api==1.3.5", *NUMPY_2),
    "oda_api-1.2.1": ("oda-api==1.2.1", *NUMPY_2),
    "oda_api-1.1.0": ("oda-api==1.1.0", *NUMPY_2),
    "oda_api-1.0": ("oda-api==1.0", *NUMPY_2),
    "oda_api-1.2.42": ("oda-api==1.2.42", *NUMPY_1),
    "oda_api-1.3.5-jupyter": ("oda-api==1.3.5", *NUMPY_2, *JUPYTER),
    "oda_api-1.0-jupyter": ("oda-api==1.0", *NUMPY_2, *JUPYTER),
    "pyspextools-0.7.1": ("pyspextools==0.7.1", *NUMPY_2),  # reads OGIP files
    "roc-validator-0.13.0": ("roc-validator==0.13.0", "rocrate==0.10.0"),  # rocrate has the context of RO-Crate 1.1
    "dispatcher-1.3.3": (
        "cdci-data-analysis==1.3.3",
        "oda-api==1.2.37",
        *NUMPY_1,
        "pandas==2.3.3",
        "scipy==1.13.1",
        "bokeh==2.4.2",
        "flask==2.2.5",
        "werkzeug==2.3.8",
        "flask-restx==1.1.0",
        "marshmallow==3.23.3",
        "sentry-sdk==2.75.0",
        "validators==0.36.0",
        "jsonschema==4.26.0",
        "pyjwt==2.15.1",
        "gunicorn==27.0.1",
    ),
}
AT_ONCE: Final = 3
"""Environments that are built at the same time: one downloads while others are unpacked."""


class EnvironmentNotBuiltError(Exception):
    """The installer could not build an environment; the message is what it reported."""


def python_of(name: str) -> Path:
    """Return the Python of the environment `name`, after building it if it is missing or its pins changed."""
    folder = ROOT / name
    python = folder / "bin" / "python"
    if not is_built(name):
        ROOT.mkdir(parents=True, exist_ok=True)
        with (ROOT / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two workers or two runs must not build one environment together
            if not is_built(name):
                _uv(name, "venv", "--clear", "--python", sys.executable, str(folder))
                _uv(name, "pip", "install", "--python", str(python), *_index(), *REQUIREMENTS[name])
                (folder / "built-from").write_text(_digest(name))
    return python


def is_built(name: str) -> bool:
    """Tell whether an environment exists that was built by this Python from the pins above."""
    stamp = ROOT / name / "built-from"
    return stamp.exists() and stamp.read_text() == _digest(name)


def _digest(name: str) -> str:
    return hashlib.sha256("\n".join((sys.version, *REQUIREMENTS[name])).encode()).hexdigest()


def _uv(name: str, *arguments: str) -> None:
    """Run uv, which may reach the package index."""
    command = [sys.executable, "-m", "uv", "--quiet", "--no-progress", *arguments]
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry != GUARD]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    result = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if result.returncode:
        raise EnvironmentNotBuiltError(f"{name}: {result.stderr.strip() or result.stdout.strip()}")


def _index() -> list[str]:
    """Return uv's option for the package index that pip is configured with, where uv has no configuration itself."""
    if os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL"):
        return []
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    settings = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for line in settings.splitlines():
        name, _, value = line.partition("=")
        if name.endswith(".index-url"):
            return ["--default-index", value.strip("'\"")]
    return []


def main() -> int:
    """Build the environments; print which could not be built and why."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(REQUIREMENTS)} (default: all)")
    names = parser.parse_args().names or list(REQUIREMENTS)
    if unknown := set(names) - set(REQUIREMENTS):
        parser.error(f"no environment has this name: {', '.join(sorted(unknown))}")
    status = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for built in [pool.submit(python_of, name) for name in names]:
            try:
                built.result()
            except EnvironmentNotBuiltError as error:
                print(f"not built: {error}", file=sys.stderr)  # noqa: T201 - this is what the program is for
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
