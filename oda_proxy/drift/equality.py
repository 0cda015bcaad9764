"""Whether a later answer to a query is equal to a recorded one, but for what is volatile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.capsule.conversion import wire_products
from oda_proxy.drift.comparison import Verdict, compare
from oda_proxy.drift.differences import EXACT, members
from oda_proxy.errors import OdaProxyError
from oda_proxy.query.query import CLIENT_DEFAULTS

if TYPE_CHECKING:
    from oda_proxy.recordings.recording import Recording


def is_same_answer(recorded: Recording, later: Recording) -> bool:
    """Return whether the products of two answers, and the parameters that were used, are the same.

    Cards such as DATE are not compared, as by `oda-proxy diff`. Answers that cannot be read differ. Blocks.
    """
    was, now = (
        {name: value for name, value in one.echo.items() if name not in CLIENT_DEFAULTS} for one in (recorded, later)
    )
    try:
        if any(members("", was, now, EXACT)):
            return False
        products = compare(wire_products(recorded), wire_products(later), with_fits_diff=False)
    except OdaProxyError:
        return False
    return all(product.verdict is Verdict.SAME for product in products)
