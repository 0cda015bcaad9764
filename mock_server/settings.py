"""The settings of a mock dispatcher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.fixture.model import Instrument

Generation: TypeAlias = Literal["today", "2019"]
DummyRelease: TypeAlias = Literal["1.3.3", "1.3.6"]

# Types that callers without a type checker mistake, in markers of tests for instance.
_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "time_scale": (int | float, "a number"),
    "seed": (int, "a whole number"),
    "secret_key": (str | None, "a text"),
    "scenario": (str | None, "a text"),
    "synthetic": (bool, "True or False"),
    "public_instruments": (bool, "True or False"),
    "dummy_instruments": (bool, "True or False"),
}

_PUBLIC_INSTRUMENTS: Final = Path(__file__).parent / "public_instruments"


def fixtures_folder() -> Path:
    """Return the folder of the shipped fixtures: in the installed package, else in the checkout."""
    package = Path(__file__).parent
    installed = package / "fixtures"
    return installed if installed.is_dir() else package.parent / "fixtures"


def folders_of_generation(generation: Generation) -> tuple[Path, ...]:
    """Return the folders of the shipped fixtures for a generation: those of 2019 come before those that both answer."""
    folder = fixtures_folder()
    return (folder / "2019", folder) if generation == "2019" else (folder,)


@dataclass(frozen=True)
class MockSettings:
    """The settings of a mock dispatcher.

    Attributes
    ----------
    fixtures
        Folders of fixtures; if two have the same query, the first folder wins. Empty: the shipped ones
        of the generation.
    time_scale
        Factor for all times of the fixtures; with 0, jobs take no time.
    scenario
        Name of a scenario of `scenario_files` or of the shipped `scenarios.toml`.
    scenario_files
        Files with more scenarios, which replace shipped ones of the same name.
    faults
        More faults, each like a table in such a file; those of the scenario come first.
    secret_key
        Key of the tokens' HMAC. None: signatures are not verified, but tokens are otherwise checked.
    seed
        For everything random: session ids, faults with a probability, and synthetic data.
    generation
        The dispatcher to imitate: that of today (1.3.6) or that of May 2019.
    products_url
        The public address in `api_code` and redirects. None: the address that the client used.
    synthetic
        Make up data for valid queries without a fixture.
    described
        Descriptions of instruments, which replace those of the same name in folders and fixtures.
    descriptions
        Folders of descriptions, one `<instrument>.json` each; if two describe an instrument, the first wins, and they
        replace those of the fixtures.
    public_instruments
        Add the shipped descriptions of public instruments: gw, legacysurvey, magic and others.
    dummy_instruments
        Add the instruments of the dispatcher's dummy plugin: `empty`, `empty-async`, `empty-semi-async` and others.
    dummy_release
        The release of the dispatcher whose dummy instruments to add.
    pages
        Files with pages of services around the dispatcher, which are tried before those of the shipped `pages.toml`.
    job_folders
        Write a folder for each job into this folder, as a dispatcher does, for suites that read them, and serve files
        that they put there. None: write none.
    redirect_instr_list
        Redirect `/api/instr-list` to this absolute URL, as 1.3.6 does. None: return the list.
    """

    fixtures: tuple[Path, ...] = ()
    time_scale: float = 1.0
    scenario: str | None = None
    scenario_files: tuple[Path, ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    secret_key: str | None = None
    seed: int = 0
    generation: Generation = "today"
    products_url: str | None = None
    redirect_instr_list: str | None = None
    synthetic: bool = False
    described: tuple[Instrument, ...] = ()
    descriptions: tuple[Path, ...] = ()
    public_instruments: bool = False
    dummy_instruments: bool = False
    dummy_release: DummyRelease = "1.3.6"
    pages: tuple[Path, ...] = ()
    job_folders: Path | None = None

    def __post_init__(self) -> None:
        for name, (kinds, expected) in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
                raise UsageError(f"{name} cannot be {value!r}: it should be {expected}")
        if not 0 <= self.time_scale < float("inf"):
            raise UsageError(
                f"the time scale {self.time_scale} is not valid: give 0 for jobs that take no time, 1 for real time"
            )
        if self.secret_key is not None and not self.secret_key.strip():
            raise UsageError("the secret key is empty: use a key, or None to accept any signature")
        if self.job_folders is not None and not self.job_folders.is_dir():
            raise UsageError(f"the folder for jobs does not exist: {self.job_folders}")
        if self.dummy_release not in get_args(DummyRelease):
            known = " or ".join(map(repr, get_args(DummyRelease)))
            raise UsageError(f"there are no dummy instruments of the release {self.dummy_release!r}: choose {known}")
        if self.generation not in ("today", "2019"):
            raise UsageError(f"there is no generation {self.generation!r}: choose 'today' or '2019'")

    @property
    def description_folders(self) -> tuple[Path, ...]:
        """The folders of descriptions to serve."""
        return (*self.descriptions, *((_PUBLIC_INSTRUMENTS,) if self.public_instruments else ()))

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of fixtures to serve."""
        return self.fixtures or folders_of_generation(self.generation)
