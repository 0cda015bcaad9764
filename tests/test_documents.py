"""Commands, links and paths in the README and in docs/ are valid."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import parser
from oda_proxy.commands import run_arguments
from oda_proxy.config.sources import resolve_options
from tests.support.paths import CHECKOUT, DOCS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = (CHECKOUT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"(?m)(?:^    |`)(oda-proxy [a-z][^`#\n]*)", README)))
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", CHECKOUT / "fixtures/README.md", *sorted(DOCS.glob("*.md"))]
DESIGN = (DOCS / "design.md").read_text()
PACKAGE = CHECKOUT / "oda_proxy"


def test_the_readme_shows_commands() -> None:
    assert "oda-proxy serve" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_understood(command: str) -> None:
    example = command.replace("DIR", "folder").replace("URL", "http://127.0.0.1:8000")

    words, program = run_arguments.split(shlex.split(example)[1:])
    arguments = parser().parse_args(words)

    assert bool(program) == (" -- " in example)
    resolve_options(arguments.options, vars(arguments), {}, None, warn=pytest.fail)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README))))
def test_a_target_of_the_readme_is_there(target: str) -> None:
    assert re.search(rf"(?m)^{target}:", (CHECKOUT / "Makefile").read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes for the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_the_files_of_the_project_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`((?:oda_proxy|mock_server|tests|benchmarks|examples)/[\w/.]+\.\w+)`", page.read_text())

    assert [name for name in named if not (CHECKOUT / name).exists()] == []


OF_OTHER_PROGRAMS = {
    "--allow-hosts": "pytest-recording",
    "--allowed-hosts": "pytest-recording",
    "--block-network": "pytest-recording",
    "--compressed": "curl",
    "--data-binary": "curl",
    "--execute": "jupyter nbconvert",
    "--full": "tests.soak.conformance",
    "--inplace": "jupyter nbconvert",
    "--many": "tests.soak.conformance",
    "--network": "docker",
    "--option": "tests.soak.conformance",
    "--python": "uv",
    "--reference": "chown",
    "--refresh": "tests.soak.conformance",
    "--show-capture": "pytest",
    "--strict-markers": "pytest",
    "--tb": "pytest",
    "--to": "jupyter nbconvert",
    "--token": "tests.soak.conformance",
    "--warm": "tests.soak.conformance",
}
"""Options of other programs that pages name."""


def commands() -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of all commands."""
    parsers: list[argparse.ArgumentParser] = [parser()]
    while parsers:
        yield (one := parsers.pop())
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())


def flags_of_commands() -> set[str]:
    """Return the long options of all commands."""
    flags = (flag for command in commands() for action in command._actions for flag in action.option_strings)
    return {flag for flag in flags if flag.startswith("--")}


def flags_of_the_plugin() -> set[str]:
    """Return the options that the pytest plugin adds."""
    return set(re.findall(r'"(--oda-[a-z-]+)"', (PACKAGE / "pytest_plugin.py").read_text()))


def documented_flags() -> dict[str, str]:
    """Return the long options that pages name, each with a page; those of the changelog may be gone."""
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    found = {page.name: set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", page.read_text())) for page in pages}
    return {flag: name for name, flags in found.items() for flag in flags}


def test_every_option_of_a_command_and_of_the_plugin_is_documented() -> None:
    exist = flags_of_commands() | flags_of_the_plugin()

    assert len(exist) > 50
    assert sorted(exist - documented_flags().keys() - {"--help"}) == []


def test_every_option_that_a_page_names_exists() -> None:
    documented = documented_flags()
    unknown = documented.keys() - flags_of_commands() - flags_of_the_plugin() - OF_OTHER_PROGRAMS.keys() - {"--oda"}

    assert {flag: documented[flag] for flag in unknown} == {}
    assert OF_OTHER_PROGRAMS.keys() - documented.keys() == set()


def test_every_variable_that_a_page_names_sets_an_option() -> None:
    options = {option.variable for command in commands() for option in command.get_default("options") or ()}
    of_programs_and_tests = {"ODA_PROXY_URL", "ODA_PROXY_EXAMPLES", "ODA_PROXY_REQUIRE_REAL", "ODA_PROXY_TEST_ENVS"}
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    named = {name for page in pages for name in re.findall(r"ODA_PROXY_[A-Z_]*[A-Z]", page.read_text())}

    assert sorted(named - options - of_programs_and_tests) == []


def test_the_files_to_open_first_are_there() -> None:
    rows = re.findall(r"(?m)^\| [*`].*\|.*\| (`.*`) \|$", DESIGN)
    files = [name for row in rows for name in re.findall(r"`([^`]+\.py)`", row)]

    assert len(files) > 20
    assert [name for name in files if not (PACKAGE / name).exists() and not (CHECKOUT / name).exists()] == []


def test_the_table_of_the_design_has_all_packages_in_the_order_of_their_layers() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    order = {name: n for n, layer in enumerate(layers) for name in layer.split(" | ") if name != "_version"}
    cells = re.findall(r"(?m)^\| ([*`].*?) \| .*? \| `.*` \|$", DESIGN)
    table = [name for cell in cells for name in re.findall(r"`(\w+)/?`", cell) if name != "mock_server"]

    assert sorted(table) == sorted(order)
    assert [order[name] for name in table] == sorted(order.values())
