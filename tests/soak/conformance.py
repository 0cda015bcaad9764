"""Run the suite of a dispatcher or of `oda_api` directly and through the proxy, and list the tests that end otherwise.

    python -m tests.soak.conformance SUITE --python PYTHON [--warm] [--refresh] [--option=...] [-- PYTEST-ARGUMENT...]
    python -m tests.soak.conformance SUITE --python PYTHON --mock [--option=...] [-- PYTEST-ARGUMENT...]

With `--mock`, the second run is over a mock with the dispatcher's dummy instruments, in place of the proxy.

SUITE is a checkout of the other project, which is never part of this one; PYTHON is that of an environment in which it
and what its tests need is installed. Its fixtures start dispatchers on fixed ports: run one suite at a time, or each in
a network namespace. The table of `docs/conformance.md` has a reason for each test that is listed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import CHECKOUT, NETWORK_GUARD

PLUGIN = "conformance_plugin"
COMMAND = (sys.executable, "-m", "oda_proxy.cli")
MOCK = (sys.executable, str(CHECKOUT / "tests" / "soak" / "conformance_mock.py"))
"""The command of the mock that is like the dispatchers of the suites."""
TIMEOUT = 300
"""Seconds for one test."""


@dataclass(frozen=True)
class Outcome:
    """How a test ended."""

    outcome: str
    message: str


def run(
    suite: Path,
    python: Path,
    result: Path,
    *,
    server: list[str],
    options: argparse.Namespace,
    cache: Path | None,
    arguments: list[str],
) -> dict[str, Outcome]:
    """Run the suite once, with the command of a server or directly; return the outcome of each test."""
    path = [str(NETWORK_GUARD), str(CHECKOUT / "tests" / "soak"), str(suite), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),  # fixtures start `python`
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "CONFORMANCE_RESULT": str(result),
        ("CONFORMANCE_MOCK" if options.mock else "CONFORMANCE_SERVE"): json.dumps(server),
        "CONFORMANCE_API": "" if options.mock else "yes",
        "CONFORMANCE_PAUSE": str(options.pause),
        "CONFORMANCE_REFRESH": "yes" if options.refresh else "",
    }
    if cache:
        env["CONFORMANCE_CACHE"] = str(cache)
    command = [str(python), "-m", "pytest", "-p", PLUGIN, "-q", "--timeout", str(TIMEOUT), "-p", "no:cacheprovider"]
    with result.with_suffix(".log").open("w") as log:
        subprocess.run([*command, *arguments], cwd=suite, env=env, stdout=log, stderr=log, check=False)
    entries = [json.loads(line) for line in result.read_text().splitlines()]
    return {entry["test"]: Outcome(entry["outcome"], entry["message"]) for entry in entries}


def differences(direct: dict[str, Outcome], through: dict[str, Outcome]) -> dict[str, Outcome]:
    """Return what passed directly and did not in the other run."""
    missing = Outcome("missing", "it did not run")
    passed = [test for test, outcome in direct.items() if outcome.outcome == "passed"]
    return {test: through.get(test, missing) for test in passed if through.get(test, missing).outcome != "passed"}


def counts(outcomes: dict[str, Outcome]) -> str:
    kinds = ("passed", "failed", "skipped")
    return ", ".join(f"{sum(one.outcome == kind for one in outcomes.values())} {kind}" for kind in kinds)


def main() -> int:
    """Run the suite, print the differences, and exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="of the environment of the suite")
    parser.add_argument("--results", type=Path, help="folder for results and logs (default: a temporary one)")
    parser.add_argument("--direct", type=Path, help="result of an earlier direct run, to be used again")
    parser.add_argument("--mock", action="store_true", help="run over a mock in place of the proxy")
    parser.add_argument(
        "--warm", action="store_true", help="run through the proxy twice with one store; list the second"
    )
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds before each poll: what fails no more is delay"
    )
    parser.add_argument(
        "--refresh", action="store_true", help="send queries with no-cache: what fails no more was joined or a hit"
    )
    parser.add_argument("--option", action="append", default=[], help="an option for `oda-proxy serve`, or the mock")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, arguments = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    # The path of the executable is kept as it is: resolved, it would be the Python that the environment was made with.
    python, suite = options.python.absolute(), options.suite.absolute()
    server = [*(MOCK if options.mock else (*COMMAND, "serve")), *options.option]
    other = "over the mock" if options.mock else "through the proxy"
    with tempfile.TemporaryDirectory() as place:
        folder = (options.results or Path(place)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        result = folder / "direct.jsonl"
        if options.direct:
            entries = [json.loads(line) for line in options.direct.read_text().splitlines()]
            direct = {entry["test"]: Outcome(entry["outcome"], entry["message"]) for entry in entries}
        else:
            direct = run(suite, python, result, server=[], options=options, cache=None, arguments=arguments)
        say(f"directly: {counts(direct)}")
        cache = folder / "cache" if options.warm else None
        through: dict[str, Outcome] = {}
        for name in ("first", "second") if options.warm else ("through",):
            result = folder / f"{name}.jsonl"
            through = run(suite, python, result, server=server, options=options, cache=cache, arguments=arguments)
            say(f"{other} ({name}): {counts(through)}")
    found = differences(direct, through)
    for test, outcome in sorted(found.items()):
        say(f"{test}\n    {outcome.outcome}: {' '.join(outcome.message.split())[:300]}")
    say(f"{len(found)} tests pass directly and not {other}")
    return 1 if found else 0


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the program is for


if __name__ == "__main__":
    sys.exit(main())
