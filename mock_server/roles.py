"""The roles that a query needs, and the message if they are missing.

The rules are those of the INTEGRAL plugins, for any instrument with these parameters. The texts are those of dispatcher
1.3.6; only that for more than 500 pointings is inferred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from oda_proxy.fixture.model import QueryDescription

_FULL_POINTINGS: Final = 50
_EXTREME_POINTINGS: Final = 500


def missing_roles(parameters: Mapping[str, Any], roles: Collection[str]) -> dict[str, str]:
    """Return the roles that a query needs and its token lacks, with the reason for each, sorted by role."""
    return {role: reason for role, reason in sorted(_needed(parameters)) if role not in roles}


def missing_for_product(query: QueryDescription, roles: Collection[str]) -> dict[str, str]:
    """Return the roles that a product needs by its description and a token lacks, with the reason for each."""
    return {role: "please refer to support for details" for role in sorted(query.roles) if role not in roles}


def _needed(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pointings = parameters.get("max_pointings")
    if isinstance(pointings, int):
        if pointings > _FULL_POINTINGS:
            yield (
                "unige-hpc-full",
                f"it is needed to request > {_FULL_POINTINGS} ScW, you requested max_pointings={pointings}",
            )
        if pointings > _EXTREME_POINTINGS:
            yield (
                "unige-hpc-extreme",
                f"it is needed to request > {_EXTREME_POINTINGS} ScW, you requested max_pointings={pointings}",
            )
    if parameters.get("integral_data_rights") == "all-private":
        yield (
            "integral-private-qla",
            'this role is needed to access private INTEGRAL data requested with integral_data_rights == "all-private"',
        )
    if parameters.get("data_level") == "realtime":
        yield "integral-realtime", "access to real time data requires special role"


def refusal_text(missing: Mapping[str, str], roles: Collection[str]) -> str:
    """Return the dispatcher's message for missing roles."""
    reasons = "\n".join(f" - {role}: {reason}" for role, reason in missing.items())
    return (
        "Unfortunately, your priviledges are not sufficient to make the request for this particular product and "
        f"parameter combination.\n- Your priviledge roles include {list(roles)}\n"
        f"- You are lacking all of the following roles:\n{reasons}\n"
        "You can request support if you think you should be able to make this request."
    )
