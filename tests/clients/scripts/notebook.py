"""Run the cells of the notebook TestAPI with whatever `oda_api` is installed here; print one line of JSON.

    notebook.py URL FOLDER [GROUP...]

GROUP is one of the functions below; all of them if none is named. Each cell gives what it printed, and the value that
it ended with. Files and plots are written to FOLDER.
"""

import inspect
import io
import json
import logging
import os
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path

from matplotlib import pyplot as plt
from oda_api import plot_tools
from oda_api.api import DispatcherAPI

TIMES = {"T1": "2003-03-15T23:27:40.0", "T2": "2003-03-16T00:03:12.0"}
FIELD = {"osa_version": "OSA10.2", "RA": 255.986542, "DEC": -37.844167, "detection_threshold": 5.0, "radius": 15.0}
IMAGE = {"instrument": "isgri", "product": "isgri_image", "T1": TIMES["T1"], "T2": "2003-03-16T00:03:15.0"}
IMAGE |= {"E1_keV": 20.0, "E2_keV": 40.0, **FIELD, "product_type": "Real"}
WINDOW = {"scw_list": ["010200230010.001"], "osa_version": "OSA10.2", "detection_threshold": 5.0, "radius": 15.0}


class Cells:
    """What came of each cell, by name."""

    def __init__(self):
        self.seen = {}

    def run(self, name, cell, *arguments, **named):
        """Run a cell; an error is an outcome, too (clients before 1.1.46 raise SystemExit)."""
        output = io.StringIO()
        log = logging.StreamHandler(output)
        log.setFormatter(logging.Formatter("%(message)s"))
        logging.getLogger().addHandler(log)  # where clients from 1.2.1 on say what earlier ones print
        outcome, value = {}, None
        with redirect_stdout(output), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                value = cell(*arguments, **named)
            except (Exception, SystemExit) as error:
                outcome["error"] = [type(error).__name__, str(error)]
        logging.getLogger().removeHandler(log)
        if isinstance(value, (str, dict, list, tuple, int)):
            outcome["value"] = value
        elif value is not None:
            outcome["value"] = repr(value)
        outcome["output"] = output.getvalue()
        if "error" in outcome:  # it may be the reason for what fails next
            print(name, outcome["error"], outcome["output"][-1000:], file=sys.stderr)
        outcome["warned"] = list(dict.fromkeys(str(warning.message) for warning in warned))
        self.seen[name] = outcome
        return value


def connected(url):
    try:
        return DispatcherAPI(url=url, instrument="mock")
    except TypeError:  # 1.0 has no `url`
        return DispatcherAPI(host=url, instrument="mock")


def numbered(things):
    for number, thing in enumerate(things):
        print(number, thing)


def plotted(name, tool, collection, product, **later):
    """Draw a product, save the picture, and tell whether anything is in it.

    Tools of 1.0 and 1.1.0 take the product, later ones the collection.
    """
    plt.close("all")
    if "data" in inspect.signature(tool.show).parameters:
        tool(product).show(unit_ID=later.get("unit_ID", 1))
    else:
        tool(collection).show(**later)
    plt.savefig(f"{name}.png")
    return bool(plt.imread(f"{name}.png").std() > 0)


def descriptions(disp, cells):
    cells.run("instruments", lambda: "\n".join(disp.get_instruments_list()))
    for instrument in ("isgri", "spi_acs", "jemx"):
        cells.run(f"description_{instrument}", disp.get_instrument_description, instrument)
    cells.run("description_isgri_image", disp.get_product_description, instrument="isgri", product_name="isgri_image")


def dry_run(disp, cells):
    asked = {**IMAGE, **TIMES, "RA": "a", "dry_run": True}
    del asked["E1_keV"], asked["E2_keV"]
    cells.run("dry_run", disp.get_product, **asked)


def isgri_image(disp, cells):
    data = cells.run("image", disp.get_product, **IMAGE)
    cells.run("image_show", data.show)
    cells.run("image_by_name", lambda: getattr(data, data._n_list[0]))
    cells.run("image_by_number", lambda: data._p_list[0])
    cells.run("image_table", data.dispatcher_catalog_1.table._repr_html_)
    api_cat = cells.run("image_catalog", data.dispatcher_catalog_1.get_api_dictionary)
    data = cells.run("selected", disp.get_product, **IMAGE, selected_catalog=api_cat)
    image = data._p_list[0]
    significance = 4 if len(image.data_unit) == 6 else 1  # today's dispatchers send an index and four maps
    cells.run("selected_show", image.show)
    cells.run("selected_meta", image.show_meta)
    cells.run("selected_data", lambda: image.data_unit[significance].data)
    cells.run("selected_hdus", lambda: len(image.to_fits_hdu_list()))
    cells.run("selected_shape", lambda: image.data_unit[significance].data.shape)
    cells.run("selected_written", image.write_fits_file, "test.fits", overwrite=True)
    cells.run("selected_plot", plotted, "image", plot_tools.OdaImage, data, image, unit_ID=significance)
    cells.run("selected_header", lambda: image.data_unit[significance].header)


def isgri_lc(disp, cells):
    asked = {**TIMES, "time_bin": 70, **FIELD, "product_type": "Real"}
    data = cells.run("lc", disp.get_product, instrument="isgri", product="isgri_lc", **asked)
    cells.run("lc_show", data.show)
    lc = data._p_list[0]
    cells.run("lc_meta", lc.show_meta)
    cells.run("lc_sources", numbered, [lc.meta_data["src_name"] for lc in data._p_list])
    cells.run("lc_data", lambda: lc.data_unit[1].data)
    cells.run("lc_first", lc.show)
    cells.run("lc_meta_data", lambda: lc.meta_data)
    source = {"in_source_name": "GX 349+2"}
    cells.run("lc_plot", plotted, "lc", plot_tools.OdaLightCurve, data, lc, **source)
    cells.run("lc_header", lambda: lc.data_unit[0].header)


def polar_lc(disp, cells):
    asked = {"T1": "2016-12-18T08:32:21.000", "T2": "2016-12-18T08:34:01.000", "time_bin": 0.5}
    asked |= {"verbose": True, "dry_run": False}
    data = cells.run("polar", disp.get_product, instrument="polar", product="polar_lc", **asked)
    cells.run("polar_show", data.show)
    lc, root = data._p_list
    cells.run("polar_by_number", lambda: lc)
    # A client that asks for itself by version is sent its binary products with a name and a checksum.
    root = getattr(root, "bin_data", root)
    cells.run("polar_written", lambda: Path("lc.root").write_bytes(root))
    cells.run("polar_plot", plotted, "polar", plot_tools.OdaLightCurve, data, lc)


def spi_acs_lc(disp, cells):
    asked = {**TIMES, "T2": "2003-03-15T23:57:12.0", "time_bin": 2, **FIELD, "product_type": "Real"}
    data = cells.run("acs", disp.get_product, instrument="spi_acs", product="spi_acs_lc", **asked)
    cells.run("acs_show", data.show)
    lc = data._p_list[0]
    cells.run("acs_first", lc.show)
    cells.run("acs_header", lambda: lc.data_unit[1].header)
    cells.run("acs_data", lambda: lc.data_unit[1].data[0:10])
    cells.run("acs_plot", plotted, "acs", plot_tools.OdaLightCurve, data, lc)


def isgri_spectrum(disp, cells):
    asked = {**TIMES, "time_bin": 50, **FIELD, "product_type": "Real"}
    data = cells.run("spectrum", disp.get_product, instrument="isgri", product="isgri_spectrum", **asked)
    products = data._p_list
    cells.run("spectrum_products", numbered, [one.meta_data for one in products])
    for number, name in ((87, "spec"), (88, "arf"), (89, "rmf")):
        cells.run(f"spectrum_{name}_written", products[number].write_fits_file, f"{name}.fits")
    cells.run("spectrum_last", products[-1].show)
    cells.run("spectrum_header", lambda: products[3].data_unit[1].header)


def jemx(disp, cells):
    for product, number, kind in (
        ("jemx_image", {"jemx_num": "2"}, "dummy"),
        ("jemx_lc", {"jemx_nume": "2"}, "Real"),  # misspelt in the notebook
        ("jemx_spectrum", {"jemx_num": "2"}, "Real"),
    ):
        asked = {"instrument": "jemx", **number, "product": product, **WINDOW, "product_type": kind}
        data = cells.run(product, disp.get_product, **asked)
        cells.run(f"{product}_names", data._n_list.copy)


GROUPS = (descriptions, dry_run, isgri_image, isgri_lc, polar_lc, spi_acs_lc, isgri_spectrum, jemx)


def main():
    url, folder, *names = sys.argv[1:]
    os.chdir(folder)
    logging.getLogger("oda_api").setLevel(logging.INFO)
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(seconds / 50)  # between polls; the mock's jobs are as much faster
    disp, cells = connected(url), Cells()
    for group in GROUPS:
        if not names or group.__name__ in names:
            # oda_api 1.1.0 polls with the job_id of a query that failed before: the dry run gets a client of its own
            group(connected(url) if group is dry_run else disp, cells)
    print(json.dumps(cells.seen))


main()
