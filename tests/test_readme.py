"""What the README tells people to type works."""

from __future__ import annotations

import re
import shlex

import pytest

from oda_proxy import config
from oda_proxy.cli import parser
from oda_proxy.commands import run_arguments
from tests.support.paths import CHECKOUT as ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"(?m)(?:^    |`)(oda-proxy [a-z][^`#\n]*)", README)))


def test_the_readme_shows_commands() -> None:
    assert "oda-proxy serve" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_understood(command: str) -> None:
    example = command.replace("DIR", "folder").replace("URL", "http://127.0.0.1:8000")

    words, program = run_arguments.split(shlex.split(example)[1:])
    arguments = parser().parse_args(words)

    assert bool(program) == (" -- " in example)
    config.resolve(arguments.options, vars(arguments), {}, None, warn=pytest.fail)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README))))
def test_a_target_of_the_readme_is_there(target: str) -> None:
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text())


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)[^)]*\)", README))
def test_a_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
