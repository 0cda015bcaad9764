"""The fixtures of a mock: instrument descriptions, the index of queries, and encoded products."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from mock_server.descriptions import Description
from mock_server.matching import DUMMY, FixtureIndex, NormalisedQuery
from mock_server.parameter_values import BadParameterError
from mock_server.parameters import check
from mock_server.web_products import WebFixture, for_web_page
from oda_proxy.errors import FixtureError
from oda_proxy.fixture.reading import Fixture, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mock_server.dummy_plugin import DummyPlugin
    from mock_server.settings import Generation
    from mock_server.synthetic.described_fixture import DescribedFixture
    from mock_server.synthetic.synthetic_fixture import SyntheticFixture
    from oda_proxy.fixture.model import FixtureAnswer, Instrument

    ProductSource: TypeAlias = Fixture | SyntheticFixture | DescribedFixture | WebFixture

log = logging.getLogger(__name__)

# Members that the mock writes itself for each request, after the data products.
_BOOKKEEPING: Final = frozenset(
    {"prod_process_message", "session_id", "job_id", "input_prod_list", "analysis_parameters", "api_code"}
)
_NUMPY_PRODUCTS: Final = ("numpy_data_product", "numpy_data_product_list")

T = TypeVar("T")


# The instruments whose products are modelled one by one, and not made from their description.
MODELLED: Final = frozenset({"isgri", "jemx", "polar", "spi_acs"})
# How many synthetic products are cached; they can be generated again at any time.
_MAX_SYNTHETIC: Final = 16


@dataclass
class FixtureLibrary:
    """The fixtures that a mock serves.

    With a `seed`, also synthetic data for queries without a fixture, in the form of the `generation`; with a
    `dummy_plugin`, its instruments, unless a folder describes an instrument of the same name.
    """

    descriptions: Mapping[str, Description]
    index: FixtureIndex
    seed: int | None = None
    dummy_plugin: DummyPlugin | None = None
    generation: Generation = "today"
    fixtures: tuple[tuple[Fixture, Path], ...] = ()
    _first: tuple[Mapping[str, Description], FixtureIndex, DummyPlugin | None] = field(init=False)
    _answers: dict[int, FixtureAnswer] = field(default_factory=dict)
    _encoded: dict[tuple[str, int | str], asyncio.Task[Any]] = field(default_factory=dict)
    _synthetic: list[tuple[str, int | str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._first = (self.descriptions, self.index, self.dummy_plugin)

    @classmethod
    def open(
        cls,
        folders: Iterable[Path],
        seed: int | None = None,
        *,
        dummy_plugin: DummyPlugin | None = None,
        described: Iterable[Instrument] = (),
        generation: Generation = "today",
    ) -> FixtureLibrary:
        """Read the manifests, descriptions and queries of folders, but no arrays.

        The instruments in `described` replace those of the same name in the folders; they have fixtures only where a
        folder has one of the same product.

        Raises
        ------
        FixtureError
            A folder does not follow the format, or has a fixture for an instrument or product that no folder describes.
        """
        opened = [open_folder(folder) for folder in folders]
        descriptions: dict[str, Description] = {}
        for instrument in described:
            descriptions.setdefault(instrument.name, Description(instrument))
        replaced = frozenset(descriptions)
        for folder in opened:
            for instrument in folder.instruments:
                if not instrument.queries:
                    raise FixtureError(folder.path / instrument.name, "the description of the instrument has no query")
                descriptions.setdefault(instrument.name, Description(instrument))
        if dummy_plugin is not None:
            dummy_plugin = dummy_plugin.without(descriptions)
            descriptions |= dummy_plugin.descriptions
        fixtures = tuple((fixture, folder.path / fixture.path) for folder in opened for fixture in folder.fixtures)
        queries = []
        for fixture, place in fixtures:
            query = _normalised_query(fixture, descriptions, place, replaced)
            if query is not None:
                queries.append((query, fixture))
        return cls(descriptions, FixtureIndex(tuple(queries)), seed, dummy_plugin, generation, fixtures)

    def describe(self, instrument: Instrument) -> bool:
        """Add the description of an instrument, or replace it, and return whether there was one.

        Fixtures of the instrument are served from now on if the new description has their product and allows their
        parameters.
        """
        name = instrument.name
        replaced = name in self.descriptions
        self.descriptions = {**self.descriptions, name: Description(instrument)}
        if self.dummy_plugin is not None:
            self.dummy_plugin = self.dummy_plugin.without({name})
        queries = [(query, fixture) for query, fixture in self.index.queries if query.instrument != name]
        for fixture, place in self.fixtures:
            recorded = fixture.query()
            if recorded.instrument == name and recorded.product_type in instrument.prod_dict:
                query = _normalised_query(fixture, self.descriptions, place)
                if query is not None:
                    queries.append((query, fixture))
        self.index = FixtureIndex(tuple(queries))
        self._forget_synthetic()
        return replaced

    def reset(self) -> None:
        """Return to the descriptions of the start."""
        self.descriptions, self.index, self.dummy_plugin = self._first
        self._forget_synthetic()

    def _forget_synthetic(self) -> None:
        """Drop the cached synthetic products, which a description determines."""
        for key in self._synthetic:
            self._encoded.pop(key, None)
        self._synthetic.clear()

    @property
    def instruments(self) -> list[str]:
        """The names of all instruments, sorted."""
        return sorted(self.descriptions)

    def find(self, query: NormalisedQuery) -> ProductSource | None:
        """Return the fixture with this query, or the result of a dummy instrument, or None.

        For queries without `api`, products for the web page are made from a fixture with it.

        The plugins of the modelled instruments return the same dummy product to every query of the type `Dummy`.
        """
        found: ProductSource | None = self.index.find(query)
        if found is None and query.query_type == DUMMY and query.instrument in MODELLED:
            found = self.index.find_dummy(query)
        if found is None and self.dummy_plugin is not None:
            found = self.dummy_plugin.find(query)
        if found is None and not query.api and query.instrument in MODELLED:
            return for_web_page(self.find(replace(query, api=True)))
        return found

    def synthesise(self, query: NormalisedQuery) -> ProductSource | None:
        """Return synthetic data for a query, or None if there are none for such queries or they are switched off."""
        if self.seed is None:
            return None
        if not query.api:
            return for_web_page(self.synthesise(replace(query, api=True)))
        from mock_server.synthetic.described_fixture import described_fixture  # imported only if they are needed
        from mock_server.synthetic.synthetic_fixture import synthetic_fixture

        modelled = synthetic_fixture(query, self.seed, self.generation)
        if modelled is not None or query.instrument in MODELLED or self._is_of_dummy_plugin(query):
            return modelled
        return described_fixture(query, self.descriptions[query.instrument], self.seed)

    def _is_of_dummy_plugin(self, query: NormalisedQuery) -> bool:
        return self.dummy_plugin is not None and query.instrument in self.dummy_plugin.descriptions

    def answer(self, fixture: ProductSource) -> FixtureAnswer:
        """Return the answer of a fixture; read once, then cached."""
        if not isinstance(fixture, Fixture):
            return fixture.answer()
        if id(fixture) not in self._answers:
            self._answers[id(fixture)] = fixture.answer()
        return self._answers[id(fixture)]

    async def products(self, fixture: ProductSource, *, for_1_0: bool) -> bytes:
        """Return the members of a fixture's products as JSON without the braces; encoded once, then cached.

        With `for_1_0`, products have the form that oda_api 1.0 reads, if it differs from that of later releases.
        """
        shape = "1.0" if for_1_0 else "later"
        return await self._once((shape, _identity(fixture)), lambda: _members(_shaped(_wire(fixture), for_1_0=for_1_0)))

    async def products_2019(self, fixture: ProductSource, cards: Mapping[str, str]) -> bytes:
        """Return the products as a dispatcher of 2019 writes them, with `cards` in each primary header."""
        wire = await self._once(("wire", _identity(fixture)), lambda: _shaped(_wire(fixture), for_1_0=True))
        return await asyncio.to_thread(lambda: _members(_with_cards(wire, cards)))

    async def _once(self, key: tuple[str, int | str], make: Callable[[], T]) -> T:
        """Run a function in a thread, once per key; later calls get the same result, unless it failed."""
        if key not in self._encoded:
            self._encoded[key] = asyncio.create_task(asyncio.to_thread(make))
            if isinstance(key[1], str):
                self._synthetic.append(key)
                if len(self._synthetic) > _MAX_SYNTHETIC:
                    self._encoded.pop(self._synthetic.pop(0), None)
        try:
            result: T = await asyncio.shield(self._encoded[key])
        except Exception:
            self._encoded.pop(key, None)
            raise
        return result


def _identity(fixture: ProductSource) -> int | str:
    """Return an identifier: fixtures live as long as the library, synthetic ones have unique paths."""
    if isinstance(fixture, WebFixture):
        return f"{_identity(fixture.source)} for the web page"
    return id(fixture) if isinstance(fixture, Fixture) else fixture.path


def _normalised_query(
    fixture: Fixture, descriptions: Mapping[str, Description], place: Path, replaced: frozenset[str] = frozenset()
) -> NormalisedQuery | None:
    """Return the normalised query of a fixture, or None if the dispatcher would reject the query.

    Instruments whose description was `replaced` need not have the products of their fixtures.
    """
    recorded = fixture.query()
    description = descriptions.get(recorded.instrument)
    if description is None or recorded.product_type not in description.instrument.prod_dict:
        if recorded.instrument in replaced:
            log.warning("%s is never served: the description has no product %s", place, recorded.product_type)
            return None
        raise FixtureError(place, f"no instrument.json describes {recorded.instrument} {recorded.product_type}")
    if recorded.dry_run:
        return None
    try:
        parameters = check(recorded.parameters, description, recorded.product_type)
    except BadParameterError as error:
        log.warning("%s is never served: %s", place, error)
        return None
    return NormalisedQuery(
        instrument=recorded.instrument,
        product=recorded.product_type,
        query_type=recorded.query_type,
        parameters=parameters.decisive,
        api=recorded.api,
        files=recorded.files,
    )


def _wire(fixture: ProductSource) -> dict[str, Any]:
    return {name: value for name, value in fixture.wire_products(form="pickle").items() if name not in _BOOKKEEPING}


def _members(products: Mapping[str, Any]) -> bytes:
    return json.dumps(products, separators=(",", ":"))[1:-1].encode()


def _shaped(products: dict[str, Any], *, for_1_0: bool) -> dict[str, Any]:
    """Return binary products and ASCII tables in the form that a client's release reads."""
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
