"""Request instruments and descriptions with whatever `oda_api` is installed here; print one line of JSON.

describe.py URL INSTRUMENT PRODUCT
"""

import io
import json
import logging
import sys
from contextlib import redirect_stdout

from oda_api.api import DispatcherAPI


def main():
    url, instrument, product = sys.argv[1:]
    output = io.StringIO()
    with redirect_stdout(output):
        # Clients up to 1.1.0 print descriptions, later ones log them.
        logging.basicConfig(stream=output, format="%(message)s", level=logging.INFO)
        try:
            client = DispatcherAPI(url=url)
        except TypeError:  # 1.0 has no `url`
            client = DispatcherAPI(host=url)
        answers = {
            "instruments": client.get_instruments_list(),
            "instrument": client.get_instrument_description(instrument),
            "product": client.get_product_description(instrument, product),
        }
    print(json.dumps({**answers, "output": output.getvalue()}))


main()
