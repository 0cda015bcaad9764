"""Request products with whatever `oda_api` is installed here; print what a user gets as one line of JSON.

    ask_products.py URL TIMES PRODUCTS...

Each of PRODUCTS is requested TIMES times with one client object, after the list of instruments.
"""

import hashlib
import io
import json
import sys
import warnings
from contextlib import redirect_stdout

import numpy as np
from oda_api.api import DispatcherAPI


def digest(array):
    """Return shape, type and SHA-256 of an array; of a table, those of each column."""
    if array is None:
        return None
    if array.dtype.names:
        return {name: digest(np.asarray(array[name])) for name in array.dtype.names}
    if array.dtype.kind == "O":
        return [digest(np.asarray(piece)) for piece in array]
    if array.dtype.kind in "SU":
        return np.char.strip(array.astype("U")).tolist()
    plain = np.ascontiguousarray(np.asarray(array))
    return [list(array.shape), str(plain.dtype), hashlib.sha256(plain.tobytes()).hexdigest()]


def written(product):
    """Tell whether a product can be written as FITS."""
    try:
        product.write_fits_file("written.fits", overwrite=True)
    except Exception as error:
        return repr(error)
    return True


def described(product):
    """Say what a product holds."""
    if hasattr(product, "data_unit"):
        units = [
            {
                "name": unit.name,
                "header": dict(unit.header),
                "units_dict": getattr(unit, "units_dict", None),
                "data": digest(unit.data),
            }
            for unit in product.data_unit
        ]
        description = {"name": product.name, "meta_data": product.meta_data, "units": units}
        return {"kind": "numpy", **description, "written": written(product)}
    table = getattr(product, "table", product)
    if hasattr(table, "colnames"):
        return {"kind": "table", "columns": {name: [str(value) for value in table[name]] for name in table.colnames}}
    data = getattr(product, "bin_data", getattr(product, "binary_data", product))
    if isinstance(data, bytes):
        return {"kind": "bytes", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {"kind": "text", "name": getattr(product, "name", None), "value": getattr(product, "value", product)}


def request_product(client, product):
    """Ask once; an error is an answer, too (clients before 1.1.46 raise SystemExit)."""
    output = io.StringIO()
    with redirect_stdout(output):
        try:
            data = client.get_product(instrument="isgri", product=product, product_type="Real")
        except (Exception, SystemExit) as error:
            try:
                message = str(error)
            except Exception as another:
                message = repr(another)
            return {"error": type(error).__name__, "message": f"{output.getvalue()}{message}"}
        return {"names": list(data._n_list), "products": [described(product) for product in data._p_list]}


def instruments(client):
    """Ask for the list of instruments."""
    with redirect_stdout(io.StringIO()):
        try:
            return client.get_instruments_list()
        except (Exception, SystemExit) as error:
            return type(error).__name__


def main():
    """Report."""
    warnings.simplefilter("ignore")
    url, times, products = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host=url)
    listed = instruments(client)
    answers = [{product: request_product(client, product) for product in products} for _ in range(times)]
    print(json.dumps({"instruments": listed, "answers": answers}))


main()
