"""A run has empty caches of downloads, and what else of the home folder it may depend on is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda_proxy.run.home import empty_caches


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for file in (".cache/oda-api/x.json.gz", ".cache/matplotlib/fonts.json", ".cache/astroquery/x", ".netrc"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("of the user")
    return tmp_path


def test_the_caches_of_downloads_are_empty_and_named(home: Path) -> None:
    with empty_caches({"HOME": str(home)}) as run_home:
        client, xdg, astropy = map(Path, run_home.variables.values())

        assert list(run_home.variables) == ["ODA_CACHE", "XDG_CACHE_HOME", "ASTROPY_CACHE_DIR"]
        assert [list(folder.iterdir()) for folder in (client, astropy, xdg / "astropy", xdg / "astroquery")] == [[]] * 4
    assert run_home.replaced == (
        "the cache of oda_api in ~/.cache/oda-api",
        "the cache of astroquery in ~/.cache/astroquery",
    )
    assert not client.exists()
    assert (home / ".cache/oda-api/x.json.gz").read_text() == "of the user"


def test_the_caches_of_other_programs_are_those_of_the_user(home: Path) -> None:
    with empty_caches({"HOME": str(home)}) as run_home:
        cache = Path(run_home.variables["XDG_CACHE_HOME"])

        assert (cache / "matplotlib/fonts.json").read_text() == "of the user"
    assert (home / ".cache/matplotlib/fonts.json").exists()


@pytest.mark.parametrize(
    ("variable", "cache"), [("ODA_CACHE", "oda_api"), ("ASTROPY_CACHE_DIR", "astropy"), ("XDG_CACHE_HOME", "astropy")]
)
def test_a_cache_that_the_environment_names_is_named(tmp_path: Path, variable: str, cache: str) -> None:
    (tmp_path / "elsewhere" / "astropy").mkdir(parents=True)
    (tmp_path / "elsewhere" / "astropy" / "x").write_text("")

    with empty_caches({"HOME": str(tmp_path / "home"), variable: str(tmp_path / "elsewhere")}) as run_home:
        assert len(run_home.replaced) == 1
        assert run_home.replaced[0].startswith(f"the cache of {cache} in {tmp_path}")


def test_files_that_change_what_programs_do_are_named(home: Path) -> None:
    startup = home / ".ipython/profile_default/startup/00-plots.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("")

    with empty_caches({"HOME": str(home)}) as run_home:
        assert run_home.files == ("~/.netrc", "~/.ipython/profile_default/startup/00-plots.py")


def test_a_home_without_any_of_it_is_nothing_to_speak_of(tmp_path: Path) -> None:
    with empty_caches({"HOME": str(tmp_path / "none")}) as run_home:
        assert (run_home.replaced, run_home.files) == ((), ())
