"""The container runs as another user, writes nothing but its folder and /tmp, and reports its health."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from oda_proxy.config.options import SERVE
from oda_proxy.config.sources import resolve_options
from tests.support.paths import CHECKOUT
from tests.support.servers import PATIENCE, running

USER = 10001
BECOME = """
import os, sys
user = int(sys.argv[1])
os.chdir("/")
os.setgroups([])
os.setgid(user)
os.setuid(user)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs a program as another user."""
CONTAINERFILE = (CHECKOUT / "deploy/Containerfile").read_text()
COMPOSE = yaml.safe_load((CHECKOUT / "deploy/compose.yaml").read_text())


def instructions(name: str) -> list[str]:
    """Return the arguments of the instructions of the last stage, as text."""
    last = CONTAINERFILE[CONTAINERFILE.rindex("\nFROM ") :]
    return re.findall(rf"(?m)^{name} (.*)$", last)


def environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    return dict(one.split("=", 1) for one in instructions("ENV"))


def test_it_does_not_run_as_root_and_its_root_file_system_is_read_only() -> None:
    (service,) = COMPOSE["services"].values()

    assert instructions("USER") == ["10001:10001"] == [service["user"]]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"][0].startswith("/tmp:")  # noqa: S108 - in the container
    assert service["volumes"] == [f"recordings:{environment()['ODA_PROXY_CACHE_DIR']}"]
    assert service["ports"] == [f"127.0.0.1:8400:{environment()['ODA_PROXY_PORT']}"]


def test_its_variables_are_options_with_valid_values() -> None:
    (service,) = COMPOSE["services"].values()
    variables = {**environment(), **service["environment"]}
    names = {option.variable for option in SERVE}

    assert {name for name in variables if name.startswith("ODA_PROXY_")} <= names
    values = resolve_options(SERVE, {}, variables, None, warn=pytest.fail)
    assert values["public-url"].startswith("https://")
    assert len(values["trusted-proxy"]) == 2


def interpreter() -> str:
    """Return a Python of this version that the user of the container may run; skip the test where there is none."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become the user of the container")
    check = "import sys; print(*sys.version_info[:2])"
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            result = subprocess.run([python, "-c", check], user=USER, capture_output=True, text=True, check=False)
        except OSError:  # it lies in the home of root
            continue
        if result.stdout.split() == [str(number) for number in sys.version_info[:2]]:
            return python
    pytest.skip(f"needs a Python {sys.version_info.major}.{sys.version_info.minor} that every user may run")


@pytest.mark.slow
def test_its_commands_work_as_its_user_who_writes_only_where_the_container_lets_him(tmp_path: Path) -> None:
    python = interpreter()
    entry_point = json.loads(instructions("ENTRYPOINT")[0])
    health = json.loads(re.findall(r"CMD (\[.*\])$", CONTAINERFILE, re.MULTILINE)[0])
    assert (entry_point, health[:2]) == (["oda-proxy", "serve"], ["python", "-c"])
    with tempfile.TemporaryDirectory() as folder, running(tmp_path / "mock.log", "mock", "--port", "0") as mock:
        cache, scratch = Path(folder) / "cache", Path(folder) / "scratch"
        Path(folder).chmod(0o755)
        for one in (cache, scratch):
            one.mkdir(mode=0o700)
            os.chown(one, USER, USER)
        env = {**environment(), "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(scratch), "HOME": str(scratch)}
        env |= {"ODA_PROXY_CACHE_DIR": str(cache), "ODA_PROXY_HOST": "127.0.0.1", "ODA_PROXY_PORT": "0"}
        program = ["-c", BECOME, str(USER), python, "-m", "oda_proxy.cli"]
        with running(
            tmp_path / "proxy.log", *entry_point[1:], "--upstream", mock.url, env=env, program=program
        ) as proxy:
            checked = {**env, "ODA_PROXY_PORT": proxy.url.rpartition(":")[2]}
            command = [python, *health[1:]]
            assert subprocess.run(command, env=checked, user=USER, timeout=PATIENCE, check=False).returncode == 0
            proxy.end()
            quiet = subprocess.DEVNULL
            result = subprocess.run(command, env=checked, user=USER, timeout=PATIENCE, check=False, stderr=quiet)
            assert result.returncode != 0
        assert {path.stat().st_uid for path in cache.rglob("*")} == {USER}


def test_the_lines_of_the_containerfile_are_instructions() -> None:
    known = {
        "FROM",
        "COPY",
        "RUN",
        "ENV",
        "WORKDIR",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
    }
    lines = [line for line in CONTAINERFILE.splitlines() if line and not line.startswith("#")]

    assert {line.split()[0] for line in lines} == known
    for line in instructions("RUN"):
        assert shlex.split(line)
