"""A small folder of fixtures for the tests of the mock: one asynchronous and one synchronous instrument, no arrays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oda_proxy.fixture.writing import write_manifest

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = {"kind": "synthetic", "source": "a test", "modelled": ["everything"]}

# As dispatcher 1.3.6 describes them, the parts that matter.
SOURCE_QUERY = {
    "query_name": "src_query",
    "parameters": [
        {"name": "src_name", "units": "str", "value": "1E 1740.7-2942"},
        {"name": "RA", "units": "deg", "value": 265.97845833, "kind": "angle"},
        {"name": "DEC", "units": "deg", "value": -29.74516667, "kind": "angle"},
        {"name": "T1", "units": "isot", "value": "2017-03-06T13:26:48.000"},
        {"name": "T2", "units": "isot", "value": "2017-03-06T15:32:27.000"},
    ],
}
ISGRI = {
    "format": 1,
    "instrument": "isgri",
    "prod_dict": {"isgri_image": "isgri_image_query", "isgri_lc": "isgri_lc_query"},
    "queries": [
        SOURCE_QUERY,
        {
            "query_name": "isgri_parameters",
            "parameters": [
                {"name": "user_catalog", "units": None, "value": None},
                {"name": "scw_list", "units": None, "value": []},
                {"name": "radius", "units": "deg", "value": 15.0},
                {"name": "max_pointings", "units": None, "value": 50},
                {"name": "osa_version", "units": "str", "value": "OSA11.2"},
                {
                    "name": "integral_data_rights",
                    "units": "str",
                    "value": "public",
                    "restrictions": {"is_optional": False, "allowed_values": ["public", "all-private"]},
                },
                {"name": "E1_keV", "units": "keV", "value": 20.0, "restrictions": {"min_value": 15, "max_value": 800}},
                {"name": "E2_keV", "units": "keV", "value": 40.0},
            ],
        },
        {
            "query_name": "isgri_image_query",
            "product_name": "isgri_image",
            "parameters": [
                {"name": "detection_threshold", "units": "sigma", "value": 7.0},
                {"name": "image_scale_min", "units": None, "value": None, "kind": "float"},
                {"name": "image_scale_max", "units": None, "value": None, "kind": "float"},
            ],
        },
        {
            "query_name": "isgri_lc_query",
            "product_name": "isgri_lc",
            "parameters": [{"name": "time_bin", "units": "sec", "value": 1000.0}],
        },
    ],
}
POLAR = {
    "format": 1,
    "instrument": "polar",
    "prod_dict": {"polar_lc": "polar_lc_query"},
    "queries": [
        SOURCE_QUERY,
        {
            "query_name": "polar_parameters",
            "parameters": [
                {"name": "user_catalog", "units": None, "value": None},
                {"name": "E1_keV", "units": "keV", "value": 0.0},
                {"name": "E2_keV", "units": "keV", "value": 10000.0},
            ],
        },
        {
            "query_name": "polar_lc_query",
            "product_name": "polar_lc",
            "synchronous": True,
            "parameters": [{"name": "time_bin", "units": "sec", "value": 1.0}],
        },
    ],
}
IMAGE = {
    "T1": "2003-03-15T23:27:40.0",
    "T2": "2003-03-16T00:03:15.0",
    "osa_version": "OSA10.2",
    "RA": 255.986542,
    "DEC": -37.844167,
    "detection_threshold": 5.0,
    "radius": 15.0,
}
LIGHT_CURVE = {"T1": "2016-12-18T08:32:21.000", "T2": "2016-12-18T08:34:01.000", "time_bin": 0.5}
TIMELINE = [["submitted", 0.0], ["progress", 2.0], ["ready", 6.0]]


def write_folder(folder: Path) -> Path:
    """Write fixtures: `isgri_image` takes six seconds, `isgri_lc` fails after three, `polar_lc` is done at once."""
    for instrument in (ISGRI, POLAR):
        write_json(folder / str(instrument["instrument"]) / "instrument.json", instrument)
    for path, parameters, answer in (
        ("isgri/isgri_image/one", IMAGE, answer_of("an image", TIMELINE)),
        ("isgri/isgri_lc/one", {"RA": 83.0}, failure_of("no data", [["submitted", 0.0], ["failed", 3.0]])),
        ("polar/polar_lc/one", LIGHT_CURVE, answer_of("a light curve", [])),
    ):
        instrument_name, product, _ = path.split("/")
        query = {
            "format": 1,
            "instrument": instrument_name,
            "product_type": product,
            "query_type": "Real",
            "parameters": parameters,
            "api": True,
            "dry_run": False,
            "files": {},
        }
        write_json(folder / path / "query.json", query)
        write_json(folder / path / "answer.json", answer)
    write_manifest_again(folder)
    return folder


def write_manifest_again(folder: Path) -> None:
    """Write the manifest for the current files of a folder."""
    files = [*folder.glob("*/instrument.json"), *(file.parent for file in folder.glob("*/*/*/query.json"))]
    write_manifest(folder, {file.relative_to(folder).as_posix(): ORIGIN for file in files})


def answer_of(text: str, timeline: list[Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "query_status": "done",
        "exit_status": {"status": 0, "message": ""},
        "timeline": timeline,
        "products": {"text_product_list": [{"name": "text", "value": text, "meta_data": {}}]},
    }


def failure_of(message: str, timeline: list[Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "query_status": "failed",
        "exit_status": {"status": 1, "message": message},
        "timeline": timeline,
        "products": {},
    }


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
