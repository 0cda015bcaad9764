"""Request products with whatever `oda_api` is installed here; print what came as one line of JSON.

    get_product.py URL ARGUMENTS...

Each of ARGUMENTS is a JSON object: the arguments of one `get_product`, all of one client object.
"""

import hashlib
import io
import json
import sys
from contextlib import redirect_stdout

import numpy as np
from oda_api.api import DispatcherAPI


def digest(array):
    """Return shape, type and SHA-256 of an array."""
    if array is None:
        return None
    plain = np.ascontiguousarray(np.asarray(array))
    return [list(plain.shape), str(plain.dtype), hashlib.sha256(plain.tobytes()).hexdigest()]


def described(product):
    """Describe what a product holds."""
    if hasattr(product, "data_unit"):
        units = [{"name": unit.name, "header": unit.header, "data": digest(unit.data)} for unit in product.data_unit]
        return {"kind": "numpy", "name": product.name, "meta_data": product.meta_data, "units": units}
    if hasattr(product, "table"):
        table = product.table
        rows = [[value.item() if hasattr(value, "item") else str(value) for value in row] for row in table]
        columns = [[name, str(table[name].dtype), str(table[name].unit)] for name in table.colnames]
        return {"kind": "table", "columns": columns, "rows": rows}
    if hasattr(product, "bin_data"):
        product = product.bin_data
    if isinstance(product, bytes):
        return {"kind": "bytes", "size": len(product), "sha256": hashlib.sha256(product).hexdigest()}
    return {"kind": type(product).__name__, "text": str(product)}


def asked(client, arguments):
    """Ask once; an error is an answer, too (clients before 1.1.46 raise SystemExit)."""
    try:
        data = client.get_product(**arguments)
    except (Exception, SystemExit) as error:
        return {"error": type(error).__name__, "message": str(error)}
    names = list(data._n_list)
    return {"names": names, "products": [described(product) for product in data._p_list]}


def main():
    url, calls = sys.argv[1], [json.loads(argument) for argument in sys.argv[2:]]
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host=url)
    output = io.StringIO()
    with redirect_stdout(output):
        answers = [asked(client, arguments) for arguments in calls]
    print(json.dumps({"answers": answers, "output": output.getvalue()}))


main()
