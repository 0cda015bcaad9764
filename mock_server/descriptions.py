"""Descriptions of instruments: their queries and parameters, and the lists that clients get."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import BadQueryError
from oda_proxy.fixture.model import ParameterDescription

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mock_server.settings import Generation
    from oda_proxy.fixture.model import Instrument, QueryDescription

# Parameters that list input data; their defaults are never filled in.
_SCW_LIST: Final = "scw_list"
INPUT_LISTS: Final = frozenset({_SCW_LIST})
_INPUT_URI: Final = "http://odahub.io/ontology#InputProdList"
_INPUT_UNITS: Final = "names_list"
_FORMAT: Final = "_format"  # suffix of parameters with the format of another parameter
_NEVER_FILLED_IN: Final = frozenset({"user_catalog"})


class UnknownProductError(BadQueryError):
    """An instrument has no such product."""

    def __init__(self, product: str, prod_dict: Mapping[str, str]) -> None:
        super().__init__(f"product type {product} not in query_dictionary {dict(prod_dict)}")


@dataclass(frozen=True)
class Description:
    """An instrument's description.

    In addition to the parameters in the file, today's dispatcher has some for every instrument: the format of
    times, the token, a selected catalogue and the format of time bins. They are accepted, and echoed in responses, but
    are not in the lists that clients print unless they are in the file.
    """

    instrument: Instrument

    @property
    def name(self) -> str:
        """The instrument's name."""
        return self.instrument.name

    @property
    def source_query(self) -> QueryDescription:
        """The query for the source, the first of every instrument."""
        return self.instrument.queries[0]

    @property
    def instrument_queries(self) -> tuple[QueryDescription, ...]:
        """The queries shared by all products of the instrument, without the one for the source."""
        query_names = self.instrument.prod_dict.values()
        return tuple(query for query in self.instrument.queries[1:] if query.query_name not in query_names)

    @property
    def access_roles(self) -> frozenset[str]:
        """The roles that a token needs for the instrument; dispatchers hide it from others."""
        return frozenset(role for query in self.instrument_queries for role in query.roles)

    @property
    def input_list_name(self) -> str:
        """The parameter that an uploaded list of input data becomes."""
        shared = [parameter for query in self.instrument_queries for parameter in query.parameters]
        names = [one.name for one in shared if is_input_list(one) or _INPUT_URI in one.owl_uris]
        return names[0] if names else _SCW_LIST

    def product_query(self, product: str) -> QueryDescription:
        """Return the query of a product; raises UnknownProductError."""
        for query in self.instrument.queries:
            if query.query_name == self.instrument.prod_dict.get(product):
                return query
        raise UnknownProductError(product, self.instrument.prod_dict)

    def parameters(self, product: str) -> tuple[ParameterDescription, ...]:
        """Return the parameters of a product, in the order in which the dispatcher fills in their defaults."""
        queries = (self.product_query(product), *self.instrument_queries, self.source_query)
        return tuple(parameter for query in queries for parameter in self._of(query))

    def names(self) -> frozenset[str]:
        """Return the names of all parameters of all products."""
        return frozenset(parameter.name for query in self.instrument.queries for parameter in self._of(query))

    def par_names(self, product: str | None) -> list[str]:
        """Return the list of `/api/par-names` for one product or all; raises UnknownProductError."""
        query_names = self.instrument.prod_dict if product is None else (product,)
        queries = (self.source_query, *self.instrument_queries, *(self.product_query(name) for name in query_names))
        names = [parameter.name for query in queries for parameter in self._of(query)]
        return list(dict.fromkeys(name for name in names if name not in _NEVER_FILLED_IN))

    def _of(self, query: QueryDescription) -> Iterator[ParameterDescription]:
        """Yield the parameters of a query, with those that a dispatcher has for every instrument."""
        described = {parameter.name for parameter in query.parameters}
        for parameter in query.parameters:
            yield parameter
            for name, value in _companions(parameter):
                if name not in described:
                    kind = "catalog" if name == "selected_catalog" else "text"
                    yield ParameterDescription(name=name, units="str", value=value, kind=kind)
            if parameter.units_argument is not None:
                units = parameter.echo_units or parameter.units
                yield ParameterDescription(name=parameter.units_argument, units="str", value=units, kind="text")
        if query is self.source_query and "token" not in described:
            yield ParameterDescription(name="token", units="str", value=None, kind="text")


def _companions(parameter: ParameterDescription) -> Iterator[tuple[str, str | None]]:
    match parameter.name:
        case "T1":
            yield "T_format", "isot"
        case "time_bin":
            yield "time_bin_format", parameter.units or "sec"
        case "user_catalog":
            yield "selected_catalog", None


def is_filled_in(parameter: ParameterDescription) -> bool:
    """Return whether a parameter's default is filled in if a query leaves it out."""
    return parameter.name not in _NEVER_FILLED_IN and not is_input_list(parameter)


def is_input_list(parameter: ParameterDescription) -> bool:
    """Return whether a parameter lists input data, such as science windows."""
    return parameter.name in INPUT_LISTS or parameter.units == _INPUT_UNITS


def meta_data(description: Description, product: str | None, generation: Generation) -> list[Any]:
    """Return the description of `/api/meta-data` for all products or one.

    Today each query is a list; in 2019 it was a text with a list as JSON.

    Raises
    ------
    UnknownProductError
        The instrument has no such product.
    """
    wanted = (
        description.instrument.queries
        if product is None
        else (description.source_query, *description.instrument_queries, description.product_query(product))
    )
    head: list[Any] = [{"instrumet": description.name}, {"prod_dict": dict(description.instrument.prod_dict)}]
    queries = [_query_items(query, generation) for query in wanted]
    return [head + (queries if generation == "today" else [json.dumps(query) for query in queries])]


def source_meta_data(description: Description, generation: Generation) -> list[Any]:
    """Return the description of `/meta-data-src`."""
    items = _query_items(description.source_query, generation)
    return [items if generation == "today" else json.dumps(items)]


def checked_parameters(description: Description, product: str, arguments: Mapping[str, Any]) -> list[Any]:
    """Return the result of a dry run of 2019: the description of a product, with the values of the request."""
    queries = (description.source_query, *description.instrument_queries, description.product_query(product))
    items: list[Any] = [{"instrumet": description.name}]
    for query in queries:
        values = tuple(replace(p, value=arguments.get(p.name, p.value)) for p in query.parameters)
        items.append(json.dumps(_query_items(replace(query, parameters=values), "2019")))
    return [items]


def _query_items(query: QueryDescription, generation: Generation) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [{"query_name": query.query_name}]
    if query.product_name is not None:
        items.append({"product_name": query.product_name})
    for parameter in query.parameters:
        if generation == "2019":
            items.append({"units": parameter.units, "name": parameter.name, "value": parameter.value})
            continue
        item = {"name": parameter.name, "units": parameter.units, "value": parameter.value}
        if not parameter.name.endswith(_FORMAT):
            item["restrictions"] = {"is_optional": is_optional(parameter), **(parameter.restrictions or {})}
        if parameter.extra_metadata is not None:
            item["extra_metadata"] = dict(parameter.extra_metadata)
        if parameter.owl_uris:
            item["owl_uri"] = list(parameter.owl_uris)
        items.append(item)
    return items


def is_optional(parameter: ParameterDescription) -> bool:
    """Return whether a parameter can be null; if the description does not say, whether its default is null."""
    stated = (parameter.restrictions or {}).get("is_optional")
    return parameter.value is None if stated is None else bool(stated)
