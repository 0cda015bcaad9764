"""What the folders of fixtures hold: descriptions of instruments, the index of queries, and encoded products."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mock_server.descriptions import Description
from mock_server.matching import FixtureIndex, Question
from mock_server.parameters import BadParameterError, check
from oda_proxy.errors import FixtureError
from oda_proxy.fixture import open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from oda_proxy.fixture import Fixture, FixtureAnswer

log = logging.getLogger(__name__)

# What the mock writes itself for each asker, behind the data products.
_BOOKKEEPING: Final = frozenset(
    {"prod_process_message", "session_id", "job_id", "input_prod_list", "analysis_parameters", "api_code"}
)
_NUMPY_PRODUCTS: Final = ("numpy_data_product", "numpy_data_product_list")

T = TypeVar("T")


@dataclass
class Library:
    """The fixtures that a mock serves."""

    descriptions: Mapping[str, Description]
    index: FixtureIndex
    _answers: dict[int, FixtureAnswer] = field(default_factory=dict)
    _made: dict[tuple[str, int], asyncio.Task[Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folders: Iterable[Path]) -> Library:
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
        return cls(descriptions, FixtureIndex(tuple(questions)))

    @property
    def instruments(self) -> list[str]:
        """The names of all instruments, sorted."""
        return sorted(self.descriptions)

    def answer(self, fixture: Fixture) -> FixtureAnswer:
        """Return what a fixture says of its answer; read once, then kept."""
        if id(fixture) not in self._answers:
            self._answers[id(fixture)] = fixture.answer()
        return self._answers[id(fixture)]

    async def products(self, fixture: Fixture, *, for_1_0: bool) -> bytes:
        """Return the members of a fixture's products as JSON without the braces; encoded once, then kept.

        `for_1_0` asks for the shapes that oda_api 1.0 reads, where they differ from those of later releases.
        """
        shape = "1.0" if for_1_0 else "later"
        return await self._once((shape, id(fixture)), lambda: _members(_shaped(_wire(fixture), for_1_0=for_1_0)))

    async def products_2019(self, fixture: Fixture, cards: Mapping[str, str]) -> bytes:
        """Return the same as a dispatcher of 2019: with `cards` in the primary header of each product."""
        wire = await self._once(("wire", id(fixture)), lambda: _shaped(_wire(fixture), for_1_0=True))
        return await asyncio.to_thread(lambda: _members(_with_cards(wire, cards)))

    async def _once(self, key: tuple[str, int], make: Callable[[], T]) -> T:
        """Run a function in a thread; whoever asks meanwhile or later gets the same result, unless it failed."""
        if key not in self._made:
            self._made[key] = asyncio.create_task(asyncio.to_thread(make))
        try:
            result: T = await asyncio.shield(self._made[key])
        except Exception:
            self._made.pop(key, None)
            raise
        return result


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


def _wire(fixture: Fixture) -> dict[str, Any]:
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
