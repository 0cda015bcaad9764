"""What the suites of others show of a dispatcher, with an unmodified client: prints what came of each as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import oda_api.api
import oda_api.token

URL, TOKEN = sys.argv[1:3]


def ask(**arguments: Any) -> Any:
    client = oda_api.api.DispatcherAPI(url=URL, wait=False)
    data = client.get_product(silent=True, **arguments)
    return client, data


def refusal(**arguments: Any) -> str:
    try:
        ask(**arguments)
    except Exception as error:
        return type(error).__name__
    return "no error"


CATALOG = {
    "cat_lon_name": "ra",
    "cat_lat_name": "dec",
    "cat_frame": "fk5",
    "cat_coord_units": "deg",
    "cat_column_list": [[1], ["Test A"], [6], [5], [4], [3], [2], [1], [0]],
    "cat_column_names": [
        *("meta_ID", "src_names", "significance", "ra", "dec", "NEW_SOURCE", "ISGRI_FLAG", "FLAG", "ERR_RAD"),
    ],
}

stories: dict[str, Any] = {}
client, _ = ask(instrument="empty-async", product="dummy", product_type="Real")
states = [client.query_status]
client.poll()
states.append(client.query_status)
stories["a job that waits"] = states

client, data = ask(
    instrument="empty", product="numerical", product_type="Dummy", token=TOKEN, selected_catalog=json.dumps(CATALOG)
)
names = [getattr(product, "name", None) or type(product).__name__ for product in data._p_list]
stories["an image and its catalogue"] = [
    client.query_status,
    len(names),
    data.dispatcher_catalog_1.table["src_names"][0],
]

client, _ = ask(instrument="empty", product="structured", product_type="Real", struct={"b": [1], "a": [4.2]})
stories["a structured parameter"] = client.query_status
client, _ = ask(instrument="empty-async-return-progress", product="dummy", product_type="Real", return_progress=True)
stories["the products so far"] = client.query_status
stories["restricted"] = refusal(instrument="empty", product="restricted", product_type="Real", bounded_int_par=40)
stories["no role"] = refusal(instrument="empty-development", product="dummy", product_type="Dummy")
stories["refreshed"] = (
    oda_api.token.decode_oda_token(oda_api.api.DispatcherAPI(url=URL).refresh_token(TOKEN))["exp"]
    - oda_api.token.decode_oda_token(TOKEN)["exp"]
)
print(json.dumps(stories))
