"""The behaviour of the dispatcher's dummy instruments: the result of any query, and the roles that it needs.

The instruments and their results are fixtures beside this module, in one folder for each release of the dispatcher.
Which result a query has depends on its product and on `query_type`, and on no parameter but `p`. Texts and rules are
those of the plugin of that release.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_server.catalogs import SELECTION, catalog_dictionary
from mock_server.descriptions import Description
from mock_server.matching import DUMMY
from mock_server.parameter_values import normal_value
from oda_proxy.fixture.reading import open_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mock_server.fixture_library import ProductSource
    from mock_server.matching import NormalisedQuery
    from mock_server.settings import DummyRelease
    from oda_proxy.fixture.model import ParameterDescription
    from oda_proxy.fixture.reading import Fixture

_FOLDER: Final = Path(__file__).parent / "dummy_instruments"
_SEMI_ASYNC: Final = "empty-semi-async"
_WITH_CONFIGURATION: Final = "empty-with-conf"
_RETURN_PROGRESS: Final = "empty-async-return-progress"
_NUMERICAL: Final = "numerical"
_WITH_IMAGE: Final = frozenset({_NUMERICAL, "file_dummy"})
_WITH_MESSAGE: Final = frozenset({"dummy", "dummy-log-submit"})
_ECHO: Final = frozenset({"echo", "restricted"})
_ECHO_OF_DEFAULT_UNITS: Final = frozenset({"structured", "optional"})
_WITH_LIMIT: Final = frozenset({"empty", "empty-development", "empty-with-posix-path"})
_MAX_P: Final = 800
_FULL_P: Final = 50
_SUBMITTED_P: Final = (0, 4)  # of empty-semi-async: from the first to below the second
_FAILED_P: Final = -1
# Parameters that the plugin does not see: the dispatcher adds them to every instrument, or they are units of others.
_NOT_ECHOED: Final = frozenset({"T_format", "time_bin_format"})


@dataclass(frozen=True)
class DummyPlugin:
    """The dummy instruments, by name, and their results, by path of the fixture."""

    release: DummyRelease
    descriptions: Mapping[str, Description]
    fixtures: Mapping[str, Fixture]

    @classmethod
    def open(cls, release: DummyRelease) -> DummyPlugin:
        """Read the descriptions, but no results; raises FixtureError if the package is damaged."""
        folder = open_folder(_FOLDER / release)
        return cls(
            release,
            {instrument.name: Description(instrument) for instrument in folder.instruments},
            {fixture.path: fixture for fixture in folder.fixtures},
        )

    def without(self, names: Collection[str]) -> DummyPlugin:
        """Return the plugin without some of its instruments."""
        return replace(self, descriptions={name: one for name, one in self.descriptions.items() if name not in names})

    def find(self, query: NormalisedQuery) -> Fixture | None:
        """Return the result of a query, or None for other instruments."""
        if query.instrument not in self.descriptions:
            return None
        variant = "dummy" if query.query_type == DUMMY else "real"
        if (query.instrument, query.product, variant) == (_SEMI_ASYNC, _NUMERICAL, "real"):
            variant = _semi_async_variant(_value_of_p(query))
        return self.fixtures.get(f"{query.instrument}/{query.product}/{variant}")

    def refusal(self, query: NormalisedQuery) -> str | None:
        """Return why a query is rejected although its parameters follow the description, or None."""
        is_limited = query.instrument in _WITH_LIMIT & self.descriptions.keys() and query.product in _WITH_IMAGE
        return f"p value is restricted to {_MAX_P} W" if is_limited and _value_of_p(query) > _MAX_P else None

    def waits_for_reports(self, query: NormalisedQuery, fixture: ProductSource) -> bool:
        """Return whether a query is one of the instruments, and its job stays submitted until its back end reports."""
        return query.instrument in self.descriptions and bool(fixture.answer().timeline)

    def returns_progress(self, query: NormalisedQuery) -> bool:
        """Return whether a request for the products so far gets them, and the query is submitted afterwards."""
        return query.instrument == _RETURN_PROGRESS and query.instrument in self.descriptions

    def comment(self, query: NormalisedQuery, products_url: str) -> str | None:
        """Return the comment on a query that depends on the configuration of the dispatcher, or None."""
        if query.instrument not in self.descriptions or query.instrument != _WITH_CONFIGURATION:
            return None
        return None if query.query_type == DUMMY else f"dataserver products url: {products_url}"

    def missing_roles(self, query: NormalisedQuery, roles: Collection[str]) -> dict[str, str]:
        """Return the roles that a query needs and its token lacks, with the reason for each, sorted by role."""
        if query.instrument not in self.descriptions or query.product not in _WITH_IMAGE:
            return {}
        needed = {"general": "please refer to support for details"}
        p = _value_of_p(query)
        if p > _FULL_P:
            if "unige-hpc-full" in roles:  # the plugin does not ask for the role general then
                return {}
            needed = {
                "general": f"general role is needed for p>{_FULL_P}",
                "unige-hpc-full": f"unige-hpc-full role is needed for p>{_FULL_P} as well",
            }
        return {role: reason for role, reason in needed.items() if role not in roles}

    def members(
        self, query: NormalisedQuery, arguments: Mapping[str, Any], echo: Mapping[str, Any], current_p: float
    ) -> dict[str, Any] | None:
        """Return the members of `products` that the code of the instruments makes, or None for other instruments.

        Parameters
        ----------
        query
            The query.
        arguments
            Those of its request, as `read_arguments` returns them.
        echo
            The parameters in the response.
        current_p
            The number that the back end of `empty-async-return-progress` has come to.
        """
        description = self.descriptions.get(query.instrument)
        if description is None:
            return None
        if query.instrument == _RETURN_PROGRESS:
            return {"p": current_p}
        if query.product in _WITH_IMAGE:
            return _catalog_of(query, echo)
        if query.product in _ECHO | _ECHO_OF_DEFAULT_UNITS:
            return {"echo": self._echo(query, description, arguments)}
        return {"prod_process_message": ""} if query.product in _WITH_MESSAGE else {}

    def _echo(self, query: NormalisedQuery, description: Description, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of all parameters, as the code of the plugin sees them."""
        token = None if arguments.get("token") is None else str(arguments["token"])
        if self.release == "1.3.3":
            echo = {one.name: query.parameters.get(one.name, one.value) for one in _parameters(description)}
            return {**dict(sorted(echo.items())), "token": token}
        values = _values_in_default_units if query.product in _ECHO_OF_DEFAULT_UNITS else _values_as_sent
        echo = {one.name: values(one, query.parameters, arguments) for one in _parameters(description)}
        return {**echo, "token": token}


def _parameters(description: Description) -> Iterator[ParameterDescription]:
    """Yield the parameters of all products: those of the source, of the instrument, and of each product."""
    of_units = {one.units_argument for query in description.instrument.queries for one in query.parameters}
    source, shared = description.source_query, description.instrument_queries
    names: set[str] = set(_NOT_ECHOED)
    for query in (source, *shared, *map(description.product_query, description.instrument.prod_dict)):
        for parameter in query.parameters:
            if parameter.name not in names | of_units:
                names.add(parameter.name)
                yield parameter


def _values_as_sent(
    parameter: ParameterDescription, parameters: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Any:
    """Return a value with its type, but in the units and the time format of the request."""
    if parameter.name not in arguments or parameter.name not in parameters:
        return parameter.value  # also where another product has the parameter
    sent = arguments[parameter.name]
    is_changed = parameter.echo_units is not None or (parameter.kind == "time" and arguments.get("T_format") != "isot")
    return _number(sent) if is_changed and sent is not None else parameters[parameter.name]


def _values_in_default_units(
    parameter: ParameterDescription, parameters: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Any:
    """Return a value as plugins of nb2workflow get it: defaults, too, are in the units of responses."""
    if parameter.name in arguments and parameter.name in parameters:
        return parameters[parameter.name]
    if parameter.kind == "structured":
        return json.dumps(parameter.value, sort_keys=True)
    return normal_value(parameter, parameter.value, "isot") if parameter.echo_units is not None else parameter.value


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _catalog_of(query: NormalisedQuery, echo: Mapping[str, Any]) -> dict[str, Any]:
    """Return the catalogue of a query, which is part of the dummy products with an image."""
    text = echo.get("selected_catalog")
    if not isinstance(text, str) or query.query_type != DUMMY:
        return {}
    selected = echo.get(SELECTION)
    return {"catalog": catalog_dictionary(text, None if selected is None else str(selected))}


def _semi_async_variant(p: float) -> str:
    if p == _FAILED_P:
        return "real-failed"
    return "real-submitted" if _SUBMITTED_P[0] <= p < _SUBMITTED_P[1] else "real"


def _value_of_p(query: NormalisedQuery) -> float:
    """Return the parameter `p`, in W; NaN for products without it."""
    value = query.parameters.get("p")
    return float(value) if isinstance(value, (int, float)) else math.nan
