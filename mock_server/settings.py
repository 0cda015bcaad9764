"""How a mock dispatcher is set up: what it serves, how fast, and which dispatcher it imitates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Generation: TypeAlias = Literal["today", "2019"]


def fixtures_folder() -> Path:
    """Return the folder of the shipped fixtures: in the installed package, else in the checkout."""
    package = Path(__file__).parent
    installed = package / "fixtures"
    return installed if installed.is_dir() else package.parent / "fixtures"


@dataclass(frozen=True)
class MockSettings:
    """What a mock dispatcher is told at its start.

    Attributes
    ----------
    fixtures
        Folders of fixtures; where two hold an answer to one query, the earlier folder wins. None: the shipped ones.
    time_scale
        Factor on all times of the fixtures; 0 answers at once.
    scenario
        Name of a scenario of `scenario_files` or of the shipped `scenarios.toml`.
    scenario_files
        Files with further scenarios; theirs hide the shipped ones of the same name.
    faults
        Further faults, each as a table of such a file has it; those of the scenario come first.
    secret_key
        Key of the tokens' HMAC. None: signatures are not verified, everything else of a token is.
    seed
        Of all that is random: session ids that the mock makes, faults that come by chance, and data that are made up.
    generation
        Which dispatcher to imitate: that of today (1.3.6) or that of May 2019.
    products_url
        The public address that answers quote in `api_code` and redirects. None: the address the client used.
    synthetic
        Make up answers to valid queries without a fixture.
    redirect_instr_list
        Answer `/api/instr-list` with a redirect to this absolute URL, as 1.3.6 does. None: answer it directly.
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

    def __post_init__(self) -> None:
        if not 0 <= self.time_scale < float("inf"):
            raise UsageError(f"the time scale {self.time_scale} is no factor: give 0 for at once, 1 for real time")
        if self.generation not in ("today", "2019"):
            raise UsageError(f"there is no generation {self.generation!r}: choose 'today' or '2019'")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of fixtures to serve."""
        return self.fixtures or (fixtures_folder(),)
