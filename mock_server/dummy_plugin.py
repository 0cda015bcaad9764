"""The behaviour of the dispatcher's dummy instruments: the result of any query, and the roles that it needs.

The instruments (`empty`, `empty-async`, `empty-semi-async`) and their results are fixtures beside this module. Which
one is the result depends on the product and on `query_type`, and on no parameter but `p`. Texts and rules are those
of the plugin of dispatcher 1.3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_server.descriptions import Description
from mock_server.matching import DUMMY
from oda_proxy.fixture.reading import open_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mock_server.matching import NormalisedQuery
    from oda_proxy.fixture.reading import Fixture

_FOLDER: Final = Path(__file__).parent / "dummy_instruments"
_SEMI_ASYNC: Final = "empty-semi-async"
_NUMERICAL: Final = "numerical"
_EMPTY: Final = "dummy"
_ECHO: Final = "echo"
_MAX_P: Final = 800
_FULL_P: Final = 50
_SUBMITTED_P: Final = (0, 4)  # of empty-semi-async: from the first to below the second
_FAILED_P: Final = -1
# Parameters that the plugin does not see, because the dispatcher adds them to every instrument.
_NOT_ECHOED: Final = frozenset({"T_format", "time_bin_format"})


@dataclass(frozen=True)
class DummyPlugin:
    """The dummy instruments, by name, and their results, by path of the fixture."""

    descriptions: Mapping[str, Description]
    fixtures: Mapping[str, Fixture]

    @classmethod
    def open(cls) -> DummyPlugin:
        """Read the descriptions, but no results; raises FixtureError if the package is damaged."""
        folder = open_folder(_FOLDER)
        return cls(
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
        p = _value_of_p(query)
        is_restricted = query.instrument == "empty" and "empty" in self.descriptions
        if is_restricted and query.product == _NUMERICAL and p > _MAX_P:
            return f"p value is restricted to {_MAX_P} W"
        return None

    def missing_roles(self, query: NormalisedQuery, roles: Collection[str]) -> dict[str, str]:
        """Return the roles that a query needs and its token lacks, with the reason for each, sorted by role."""
        if query.instrument not in self.descriptions or query.product != _NUMERICAL:
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

    def members(self, query: NormalisedQuery, token_text: str | None) -> dict[str, Any] | None:
        """Return the members of `products` that the code of the instruments makes, or None for other instruments.

        Only `dummy` has the message that other instruments have in all products; `echo` has all parameters.
        """
        description = self.descriptions.get(query.instrument)
        if description is None:
            return None
        if query.product != _ECHO:
            return {"prod_process_message": ""} if query.product == _EMPTY else {}
        echo: dict[str, Any] = {
            parameter.name: query.parameters.get(parameter.name, parameter.value)
            for product in description.instrument.prod_dict
            for parameter in description.parameters(product)
            if parameter.name not in _NOT_ECHOED
        }
        return {"echo": {**dict(sorted(echo.items())), "token": token_text}}


def _semi_async_variant(p: float) -> str:
    if p == _FAILED_P:
        return "real-failed"
    return "real-submitted" if _SUBMITTED_P[0] <= p < _SUBMITTED_P[1] else "real"


def _value_of_p(query: NormalisedQuery) -> float:
    """Return the parameter `p`, in W; NaN for products without it."""
    value = query.parameters.get("p")
    return float(value) if isinstance(value, (int, float)) else math.nan
