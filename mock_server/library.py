"""What the folders of fixtures hold: descriptions of instruments, the index of queries, and encoded products."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from mock_server.descriptions import Description
from mock_server.matching import FixtureIndex, Question
from mock_server.parameters import BadParameterError, check
from oda_proxy.errors import FixtureError
from oda_proxy.fixture.reading import Fixture, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mock_server.synthetic.answers import SyntheticAnswer
    from oda_proxy.fixture.model import FixtureAnswer

    Answering: TypeAlias = Fixture | SyntheticAnswer

log = logging.getLogger(__name__)

# What the mock writes itself for each asker, behind the data products.
_BOOKKEEPING: Final = frozenset(
    {"prod_process_message", "session_id", "job_id", "input_prod_list", "analysis_parameters", "api_code"}
)
_NUMPY_PRODUCTS: Final = ("numpy_data_product", "numpy_data_product_list")

T = TypeVar("T")


# Answers that were made up are kept for those who ask again soon; they can be made again at any time.
_MOST_SYNTHETIC: Final = 16


@dataclass
class Library:
    """The fixtures that a mock serves; with a `seed`, what it makes up for queries without one."""

    descriptions: Mapping[str, Description]
    index: FixtureIndex
    seed: int | None = None
    _answers: dict[int, FixtureAnswer] = field(default_factory=dict)
    _made: dict[tuple[str, int | str], asyncio.Task[Any]] = field(default_factory=dict)
    _synthetic: list[tuple[str, int | str]] = field(default_factory=list)

    @classmethod
    def open(cls, folders: Iterable[Path], seed: int | None = None) -> Library:
        """Read the manifests, descriptions and queries of folders, and none of their arrays.

        Raises
        ------
        FixtureError
            A folder is not as the format says, or has a fixture for an instrument or product that no folder describes.
        """
        opened = [open_folder(folder) for folder in folders]
        descriptions: dict[str, Description] = {}
        for folder in opened:
            for instrument in folder.instruments:
                if not instrument.queries:
                    raise FixtureError(folder.path / instrument.name, "the description of the instrument has no query")
                descriptions.setdefault(instrument.name, Description(instrument))
        questions = []
        for folder in opened:
            for fixture in folder.fixtures:
                question = _question(fixture, descriptions, folder.path / fixture.path)
                if question is not None:
                    questions.append((question, fixture))
        return cls(descriptions, FixtureIndex(tuple(questions)), seed)

    @property
    def instruments(self) -> list[str]:
        """The names of all instruments, sorted."""
        return sorted(self.descriptions)

    def make_up(self, question: Question) -> SyntheticAnswer | None:
        """Return a made-up answer to a question; None where none are wanted, or not to such questions."""
        if self.seed is None:
            return None
        from mock_server.synthetic.answers import synthetic_answer  # few mocks are asked to make anything up

        return synthetic_answer(question, self.seed)

    def answer(self, fixture: Answering) -> FixtureAnswer:
        """Return what a fixture says of its answer; read once, then kept."""
        if not isinstance(fixture, Fixture):
            return fixture.answer()
        if id(fixture) not in self._answers:
            self._answers[id(fixture)] = fixture.answer()
        return self._answers[id(fixture)]

    async def products(self, fixture: Answering, *, for_1_0: bool) -> bytes:
        """Return the members of a fixture's products as JSON without the braces; encoded once, then kept.

        `for_1_0` asks for the shapes that oda_api 1.0 reads, where they differ from those of later releases.
        """
        shape = "1.0" if for_1_0 else "later"
        return await self._once((shape, _identity(fixture)), lambda: _members(_shaped(_wire(fixture), for_1_0=for_1_0)))

    async def products_2019(self, fixture: Answering, cards: Mapping[str, str]) -> bytes:
        """Return the same as a dispatcher of 2019: with `cards` in the primary header of each product."""
        wire = await self._once(("wire", _identity(fixture)), lambda: _shaped(_wire(fixture), for_1_0=True))
        return await asyncio.to_thread(lambda: _members(_with_cards(wire, cards)))

    async def _once(self, key: tuple[str, int | str], make: Callable[[], T]) -> T:
        """Run a function in a thread; whoever asks meanwhile or later gets the same result, unless it failed."""
        if key not in self._made:
            self._made[key] = asyncio.create_task(asyncio.to_thread(make))
            if isinstance(key[1], str):
                self._synthetic.append(key)
                if len(self._synthetic) > _MOST_SYNTHETIC:
                    self._made.pop(self._synthetic.pop(0), None)
        try:
            result: T = await asyncio.shield(self._made[key])
        except Exception:
            self._made.pop(key, None)
            raise
        return result


def _identity(fixture: Answering) -> int | str:
    """Tell answers apart: fixtures live as long as the library, what was made up has a path of its own."""
    return id(fixture) if isinstance(fixture, Fixture) else fixture.path


def _question(fixture: Fixture, descriptions: Mapping[str, Description], place: Path) -> Question | None:
    """Say which question a fixture answers; None where the dispatcher would refuse to run its query at all."""
    query = fixture.query()
    description = descriptions.get(query.instrument)
    if description is None or query.product_type not in description.instrument.prod_dict:
        raise FixtureError(place, f"no instrument.json describes {query.instrument} {query.product_type}")
    if query.dry_run:
        return None
    try:
        parameters = check(query.parameters, description, query.product_type)
    except BadParameterError as error:
        log.warning("%s is never served: %s", place, error)
        return None
    return Question(
        instrument=query.instrument,
        product=query.product_type,
        query_type=query.query_type,
        parameters=parameters.decisive,
        api=query.api,
        files=query.files,
    )


def _wire(fixture: Answering) -> dict[str, Any]:
    return {name: value for name, value in fixture.wire_products(form="pickle").items() if name not in _BOOKKEEPING}


def _members(products: Mapping[str, Any]) -> bytes:
    return json.dumps(products, separators=(",", ":"))[1:-1].encode()


def _shaped(products: dict[str, Any], *, for_1_0: bool) -> dict[str, Any]:
    """Give binary products and ASCII tables the shape that a client's release reads."""
    if not for_1_0:
        return products
    shaped = dict(products)
    for name, text in (("binary_data_product_list", "data"), ("astropy_table_product_ascii_list", "ascii")):
        if name in shaped:
            shaped[name] = [item[text] if isinstance(item, dict) else item for item in shaped[name]]
    return shaped


def _with_cards(products: Mapping[str, Any], cards: Mapping[str, str]) -> dict[str, Any]:
    changed = dict(products)
    for name in _NUMPY_PRODUCTS:
        value = changed.get(name)
        if isinstance(value, list):
            changed[name] = [_with_cards_in_primary(product, cards) for product in value]
        elif isinstance(value, dict):
            changed[name] = _with_cards_in_primary(value, cards)
    return changed


def _with_cards_in_primary(product: Mapping[str, Any], cards: Mapping[str, str]) -> dict[str, Any]:
    primary, *others = product["data_unit_list"]
    header = dict(sorted({**primary["header"], **cards}.items()))  # Flask sorted all keys then
    return {**product, "data_unit_list": [{**primary, "header": header}, *others]}
