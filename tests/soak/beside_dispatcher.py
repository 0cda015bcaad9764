"""Send the same requests to a dispatcher 1.3.6 and to the mock, and list those whose responses differ.

    python -m tests.soak.beside_dispatcher --python PYTHON [WORD...]

PYTHON is that of an environment with `cdci_data_analysis` 1.3.6 and gunicorn: this release is not on the package index.
With words, only requests whose names have one of them are sent. The requests are for all products of the dummy
instruments, and for the routes that check tokens; `tests/clients/test_mock_beside_dispatcher.py` compares with 1.3.3.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp.test_utils import TestServer

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.dummy_plugin import DummyPlugin
from mock_server.settings import MockSettings
from mock_server.tokens import make_token
from oda_proxy.fixture.writing import write_manifest
from tests.support.mock_requests import KEY, Request, request_to
from tests.support.response_comparison import Client, differences
from tests.support.servers import real_dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL_ROLES = "general, unige-hpc-full, oda workflow developer, job manager, refresh-tokens"
VALUES = {
    ("echo", "ang"): ("2", "2.5", "a", "", "\0"),
    ("echo", "ang_deg"): ("2", "a", "-1"),
    ("echo", "energ"): ("2", "a"),
    ("echo", "energy_units"): ("MeV", "keV", "GeV", "Hz", "m"),
    ("restricted", "bounded_int_par"): ("5", "2", "8", "40", "1", "2.5", "a", "\0"),
    ("restricted", "bounded_float_par"): ("2.2", "7.7", "-10.0", "7.8", "x"),
    ("restricted", "string_select_par"): ("ham", "foo", "", " spam "),
    ("structured", "struct"): ('{"b": [1, 2], "a": [4.2]}', "{a: 1}", "[1]", "1", '"x"', "", "\0", "[]", "{}"),
    ("restricted", "struct"): ('{"b": [1, 2]}', "1"),
    ("optional", "optional_def_float"): ("2.0", "\0", "x", ""),
}
"""Values of parameters of `empty`, by product and parameter."""
ROUTES = (
    *("/refresh_token", "/update_token_email_options", "/inspect-user-state", "/instr-list", "/get_list_terms"),
    *("/get_all_revs", "/free-up-space", "/load_frontend_fits_file_url", "/oauth_access_token_request"),
    "/get_astro_entity_info_by_source_name",
)
CATALOG = {
    "cat_lon_name": "ra",
    "cat_lat_name": "dec",
    "cat_frame": "fk5",
    "cat_coord_units": "deg",
    "cat_column_list": [[1, 2], ["Test A", "B"], [6, 1], [5, 2], [4, 3]],
    "cat_column_names": ["meta_ID", "src_names", "significance", "ra", "dec"],
}
ANOTHER_KEY = "another key"
NO_MAIL = dict.fromkeys(("mstout", "mssub", "msdone", "msfail"), False)


def token(roles: str | None, *, key: str = KEY, **claims: Any) -> str:
    payload = {"sub": "u@example.org", "name": "u", "exp": time.time() + 36000, "tem": 0, **NO_MAIL, **claims}
    return make_token(payload if roles is None else {**payload, "roles": roles}, key)


def analyses() -> Iterator[Request]:
    """Yield the requests for analyses, and for the descriptions of instruments."""
    everything = token(ALL_ROLES)

    def analysis(name: str, **arguments: str) -> Request:
        common = {"query_type": "Dummy", "query_status": "new", "session_id": "S", "api": "True"}
        return request_to(name, "/run_analysis", **{**common, **arguments})

    for instrument, description in DummyPlugin.open("1.3.6").descriptions.items():
        for route in ("/api/meta-data", "/api/par-names"):
            yield request_to(f"{route} of {instrument}", route, instrument=instrument, token=everything)
            yield request_to(f"{route} of {instrument} without a token", route, instrument=instrument)
        for product in description.instrument.prod_dict:
            query = {"instrument": instrument, "product_type": product}
            for kind in ("Dummy", "Real"):
                times = {"T1": "57818.5", "T2": "57819.5", "T_format": "mjd"}
                yield analysis(f"{instrument} {product} {kind} without a token", **query, query_type=kind)
                yield analysis(f"{instrument} {product} {kind}", **query, query_type=kind, token=everything)
                yield analysis(
                    f"{instrument} {product} {kind} mjd", **query, query_type=kind, token=everything, **times
                )
            has_p = any(one.name == "p" for one in description.product_query(product).parameters)
            for p in ("-1", "3", "60", "801", "a", "\0") if has_p else ():
                yield analysis(f"{instrument} {product} p={p!r}", **query, token=everything, p=p)
    for (product, name), values in VALUES.items():
        for value in values:
            query = {"instrument": "empty", "product_type": product, "query_type": "Real", name: value}
            yield analysis(f"{product} {name}={value!r}", **query)
    for selection in (None, "1", "1,2", "7", "", "aaa", "1.5"):
        query = {"instrument": "empty", "product_type": "numerical", "selected_catalog": json.dumps(CATALOG)}
        selected = {} if selection is None else {"catalog_selected_objects": selection}
        yield analysis(f"catalogue, {selection!r} selected", **query, **selected, token=everything)


def services() -> Iterator[Request]:
    """Yield requests for routes that check tokens."""
    tokens = {
        "no": None,
        "an empty": "",
        "a malformed": "abc",
        "a privileged": token(ALL_ROLES),
        "a general": token("general"),
        "a roleless": token(None),
        "an expired": token(ALL_ROLES, exp=1000),
        "a forged": token(ALL_ROLES, key=ANOTHER_KEY),
    }
    for route in ROUTES:
        for name, text in tokens.items():
            query = {} if text is None else {"token": text}
            if "token" in route:
                query["query_status"] = "new"
            yield request_to(f"{route} with {name} token", route, **query)
            yield Request(f"{route} with {name} token in a form", route, method="POST", form=tuple(query.items()))


async def compare(url: str, words: list[str]) -> int:
    """Send all requests, print the differences, and return their number."""
    real, found = Client(url), 0
    with tempfile.TemporaryDirectory() as place:
        write_manifest(Path(place), {})
        settings = MockSettings(fixtures=(Path(place),), dummy_instruments=True, secret_key=KEY)
        server = TestServer(make_app(settings))
        await server.start_server(**RUNNER_OPTIONS)
        mock = Client(str(server.make_url("/")))
        chosen = [one for one in (*analyses(), *services()) if not words or any(word in one.name for word in words)]
        for request in chosen:
            facts = [client.facts(request, await asyncio.to_thread(client.ask, request)) for client in (real, mock)]
            for one in facts:
                one.pop("products.numpy_data_product_list", None)  # pickled in another form
                one.pop("installed_instruments", None)  # in the order of plugins
                if request.path == "/instr-list" and isinstance(one.get("body"), list):
                    one["body"].sort()
            names = differences(*facts)
            found += bool(names)
            for name in names:
                say(f"{request.name}: {name}\n    {facts[0].get(name)!s:.300}\n    {facts[1].get(name)!s:.300}")
        await server.close()
    say(f"{found} of {len(chosen)} requests have other responses")
    return found


def main() -> int:
    """Start the dispatcher, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--python", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, real_dispatcher(options.python.absolute(), Path(place)) as url:
        asyncio.run(compare(url, options.words))
    return 0


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the program is for


if __name__ == "__main__":
    sys.exit(main())
