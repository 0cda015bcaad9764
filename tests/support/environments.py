"""Virtual environments of the unmodified clients, the real dispatcher and a reader of spectra, built once and reused.

Run as a program it builds them all, side by side. They stand in `.envs` of the checkout, or in `ODA_PROXY_TEST_ENVS`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.paths import CHECKOUT, NETWORK_GUARD

GUARD = str(NETWORK_GUARD)
"""What on `PYTHONPATH` keeps a program from reaching other machines; pip is the one that has to."""

ROOT = Path(os.environ.get("ODA_PROXY_TEST_ENVS") or CHECKOUT / ".envs")

# The pins under which each was tried; a client's numpy and astropy decide which pickles it can read.
TODAY = ("numpy==2.4.6", "astropy==8.0.2")
EARLIER = ("numpy==1.26.4", "astropy==6.1.4")
JUPYTER = ("nbclient==0.11.0", "ipykernel==7.4.0")
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "oda_api-1.3.5": ("oda-api==1.3.5", *TODAY),
    "oda_api-1.2.1": ("oda-api==1.2.1", *TODAY),
    "oda_api-1.1.0": ("oda-api==1.1.0", *TODAY),
    "oda_api-1.0": ("oda-api==1.0", *TODAY),
    "oda_api-1.2.42": ("oda-api==1.2.42", *EARLIER),
    "oda_api-1.3.5-jupyter": ("oda-api==1.3.5", *TODAY, *JUPYTER),
    "oda_api-1.0-jupyter": ("oda-api==1.0", *TODAY, *JUPYTER),
    "pyspextools-0.7.1": ("pyspextools==0.7.1", *TODAY),  # reads OGIP files
    "roc-validator-0.13.0": ("roc-validator==0.13.0", "rocrate==0.10.0"),  # the latter has the context of RO-Crate 1.1
    "dispatcher-1.3.3": (
        "cdci-data-analysis==1.3.3",
        "oda-api==1.2.37",
        *EARLIER,
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


class EnvironmentNotBuiltError(Exception):
    """pip could not build an environment; the message is what it said last."""


def python_of(name: str) -> Path:
    """Give the Python of the environment `name`, building it first where that was not done yet."""
    folder = ROOT / name
    python = folder / "bin" / "python"
    requirements = REQUIREMENTS[name]
    done = folder / "built-from"
    digest = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests must not build one environment together
        if not done.exists() or done.read_text() != digest:
            venv.create(folder, with_pip=True, clear=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
            path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry != GUARD]
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
            result = subprocess.run(pip, capture_output=True, text=True, env=env, check=False)
            if result.returncode:
                errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
                raise EnvironmentNotBuiltError(f"{name}: {' '.join(errors) or result.stderr.strip()}")
            done.write_text(digest)
    return python


def main() -> int:
    """Build every environment; say which could not be built and why."""
    status = 0
    with ThreadPoolExecutor() as pool:
        for built in [pool.submit(python_of, name) for name in REQUIREMENTS]:
            try:
                built.result()
            except EnvironmentNotBuiltError as error:
                print(f"not built: {error}", file=sys.stderr)  # noqa: T201 - this is what the program is for
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
