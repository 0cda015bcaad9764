"""Decode an answer's products with whatever `oda_api` is installed here, and print what a user sees of them.

    decode_products.py ANSWER.json FOLDER

ANSWER.json is the body of a final answer. It reaches the client as if a dispatcher had sent it: only the transport is
replaced, so that all that the client does to a body is done. Arrays are saved in FOLDER as `<product>.<unit>.npy`,
products as `<product>.fits`, binary ones as `<product>.bin`; the rest is printed as one line of JSON.
"""

import json
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import requests
from oda_api.api import DispatcherAPI

PRODUCT = {"instrument": "isgri", "product": "isgri_image", "product_type": "Real"}


def answering(body):
    """Make a stand-in for requests.get and requests.post."""

    def answer(url, **_):
        response = requests.Response()
        response.url = url
        response.status_code = 200 if "run_analysis" in url else 404
        response._content = body if response.status_code == 200 else b"not here"
        return response

    return answer


def decoded(body):
    """Ask as a user does."""
    requests.get = requests.post = answering(body)
    try:
        client = DispatcherAPI(url="http://127.0.0.1:1")
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host="http://127.0.0.1:1")
    with redirect_stdout(sys.stderr):
        return client.get_product(**PRODUCT)


def unit_seen(unit, stem):
    """Say what a data unit is, and save its array."""
    if unit.data is not None:
        np.save(stem.with_name(f"{stem.name}.npy"), np.asarray(unit.data), allow_pickle=False)
    seen = {"name": unit.name, "header": dict(unit.header), "hdu_type": unit.hdu_type, "meta_data": unit.meta_data}
    return {**seen, "has_data": unit.data is not None, "units_dict": unit.units_dict}


def seen(product, stem):
    """Say what a product is, and save what it holds."""
    if hasattr(product, "data_unit"):
        units = [
            unit_seen(unit, stem.with_name(f"{stem.name}.{number}")) for number, unit in enumerate(product.data_unit)
        ]
        said = {"kind": "numpy", "name": product.name, "meta_data": product.meta_data, "units": units}
        try:
            product.write_fits_file(str(stem.with_name(f"{stem.name}.fits")), overwrite=True)
        except Exception as error:
            said["not_written"] = repr(error)
        return said
    if hasattr(product, "table"):
        return {
            "kind": "catalog",
            "name": product.name,
            "columns": [product.table[name].tolist() for name in product.table.colnames],
        }
    if hasattr(product, "colnames"):
        return {"kind": "table", "columns": [product[name].tolist() for name in product.colnames]}
    data = (
        product
        if isinstance(product, bytes)
        else getattr(product, "bin_data", None) or getattr(product, "binary_data", None)
    )
    if data is not None:
        stem.with_name(f"{stem.name}.bin").write_bytes(data)
        return {"kind": "bytes", "name": getattr(product, "name", None), "size": len(data)}
    return {"kind": "text", "name": getattr(product, "name", None), "value": getattr(product, "value", product)}


def main():
    """Report."""
    warnings.simplefilter("ignore")
    body, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
    try:
        data = decoded(body)
    except (Exception, SystemExit) as error:  # clients before 1.1.46 exit
        print(json.dumps({"error": repr(error)}))
        return
    products = [seen(product, folder / str(number)) for number, product in enumerate(data._p_list)]
    print(json.dumps({"names": data._n_list, "products": products}))


main()
