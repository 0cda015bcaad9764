"""Get every product of a JSON list of queries, write each to a file, read it again, and draw what the client can draw.

    described_products.py URL QUERIES

Prints one line of JSON: for each query the names of its products, their kinds, and what was done with each, or an
error.
"""

import json
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import oda_api.api
from oda_api.api import DispatcherAPI

warnings.simplefilter("ignore")


class StandIn:
    """What gwpy makes of a strain or spectrogram, where it is not installed: the arguments."""

    def __init__(self, value, **arguments):
        self.value = np.asarray(value)
        self.name = arguments.pop("name")
        self.arguments = arguments


for name in ("TimeSeries", "Spectrogram"):
    if not hasattr(oda_api.api, name):
        setattr(oda_api.api, name, StandIn)


def of_arrays(product):
    product.write_fits_file("product.fits", overwrite=True)
    try:
        again = type(product).from_fits_file("product.fits")
    except AttributeError:  # 1.0 has no such function
        return "written"
    shapes = [[np.shape(unit.data) for unit in one.data_unit if unit.data is not None] for one in (product, again)]
    assert shapes[0] == shapes[1], f"read again, it has other arrays: {shapes}"
    return "read again"


def of_table(product):
    assert len(product.table) > 0, "the table is empty"
    try:
        product.write_fits_file("table.fits")
        again = type(product).from_file("table.fits", format="fits")
    except TypeError:  # 1.0 asks for a name
        return "written"
    assert again.table.colnames == product.table.colnames
    return "read again"


def of_contours(product):
    import matplotlib.pyplot as plt
    from oda_api.plot_tools import OdaGWContours

    figure = plt.figure()
    axes = figure.add_subplot()
    axes.get_transform = lambda *_: axes.transData  # instead of a projection of ligo.skymap
    OdaGWContours(product).plot_contours(ax=axes)
    assert axes.lines, "nothing was drawn"
    return "drawn"


def used(product):  # noqa: PLR0911 - one for each kind
    """Use a product as a notebook does, and return the word for that."""
    if hasattr(product, "data_unit"):
        return of_arrays(product)
    if hasattr(product, "contours"):
        return of_contours(product)
    if hasattr(product, "lon_name"):
        assert len(product.table) > 0, "the catalogue is empty"
        return "catalogue"
    if hasattr(product, "colnames"):  # 1.0 returns tables as such
        assert len(product) > 0, "the table is empty"
        return "table"
    if hasattr(product, "table"):
        return of_table(product)
    if hasattr(product, "img_type"):
        product.show()
        return product.img_type
    if hasattr(product, "bin_data") or isinstance(product, bytes):
        content = getattr(product, "bin_data", product)
        assert content.startswith(b"SIMPLE"), "not a FITS file"
        return "bytes"
    assert len(product.value) > 0
    return "values"


def draw_mosaic(data):
    """Draw a mosaic with the client's tool, whose default is the fifth HDU of today's mosaics of ISGRI."""
    from oda_api.plot_tools import OdaImage

    mosaic = data._p_list[0]
    assert mosaic.data_unit[4].header["IMATYPE"] == "SIGNIFICANCE"
    if hasattr(OdaImage, "build_fig"):  # 1.0 has another tool
        OdaImage(data).build_fig(sliders=False)


def draw_spectrum(data):
    """Draw the spectrum of the first source with the client's tool, which looks for the energies in EBOUNDS."""
    from oda_api.plot_tools import OdaSpectrum

    source = data._p_list[0].meta_data["src_name"]
    assert OdaSpectrum(data).build_fig(in_source_name=source) is not None


def answer(client, query):
    try:
        data = client.get_product(**query)
        if query["product"] == "isgri_image":
            draw_mosaic(data)
        elif query["product"].endswith("_spectrum") and query["instrument"] in ("isgri", "jemx"):
            draw_spectrum(data)
        kinds = [type(product).__name__ for product in data._p_list]
        return {"names": list(data._n_list), "kinds": kinds, "used": [used(product) for product in data._p_list]}
    except (Exception, SystemExit) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    url, queries = sys.argv[1], json.loads(sys.argv[2])
    try:
        client = DispatcherAPI(url=url)
    except TypeError:  # 1.0 has no `url`
        client = DispatcherAPI(host=url)
    with redirect_stdout(StringIO()):
        answers = [answer(client, query) for query in queries]
    print(json.dumps(answers))


main()
