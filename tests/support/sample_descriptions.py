"""Instrument descriptions of dispatchers, shortened, for tests."""

from __future__ import annotations

import json
from typing import Any

from oda_proxy.query.normalised import NormalisedQuery, normalise
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.query.schema import Schema, read_schema

_ONTOLOGY = "http://odahub.io/ontology#"
_XSD = "http://www.w3.org/2001/XMLSchema#"


def item(name: str, kind: str, value: Any, units: str | None = None) -> dict[str, Any]:
    """Return one parameter as in dispatcher 1.3.6."""
    address = (_XSD if kind[0].islower() else _ONTOLOGY) + kind
    return {"name": name, "units": units, "value": value, "restrictions": {"is_optional": False}, "owl_uri": [address]}


def companion(name: str, value: str) -> dict[str, Any]:
    """Return the parameter for a unit or format as in dispatcher 1.3.6."""
    return {"name": name, "units": "str", "value": value}


SOURCE: list[dict[str, Any]] = [
    {"query_name": "src_query"},
    item("src_name", "str", "1E 1740.7-2942", "str"),
    item("RA", "Angle", 265.97845833, "deg"),
    item("DEC", "Angle", -29.74516667, "deg"),
    item("T1", "TimeInstant", "2017-03-06T13:26:48.000", "isot"),
    companion("T_format", "isot"),
    item("T2", "TimeInstant", "2017-03-06T15:32:27.000", "isot"),
    item("token", "str", None, "str"),
]
INSTRUMENT: list[dict[str, Any]] = [
    {"query_name": "isgri_parameters"},
    {"name": "user_catalog", "units": None, "value": None, "restrictions": {"is_optional": True}},
    item("scw_list", "InputProdList", []),
    {"name": "selected_catalog", "units": None, "value": None, "restrictions": {"is_optional": True}},
    item("radius", "Angle", 15.0, "deg"),
    item("max_pointings", "int", 50),
    item("osa_version", "str", "OSA11.2", "str"),
    item("E1_keV", "Energy", 20.0, "keV"),
    item("E2_keV", "Energy", 40.0, "keV"),
    item("flag", "bool", False),
    item("table", "StructuredParameter", {"b": [1.5], "a": 1}),
    item("band", "Energy", 1.0, "MeV"),
    companion("band_units", "keV"),
    item("sources", "InputProdList", ["a"]),
]
IMAGE: list[dict[str, Any]] = [
    {"query_name": "isgri_image_query"},
    {"product_name": "isgri_image"},
    item("detection_threshold", "DetectionThreshold", 7.0, "sigma"),
    {**item("image_scale_min", "float", None), "restrictions": {"is_optional": True}},
]
CURVE: list[dict[str, Any]] = [
    {"query_name": "isgri_lc_query"},
    {"product_name": "isgri_lc"},
    item("time_bin", "TimeDeltaIsDeprecated", 1000.0, "sec"),
    companion("time_bin_format", "sec"),
]
PRODUCTS = {"isgri_image": "isgri_image_query", "isgri_lc": "isgri_lc_query"}


def meta_data(*parts: Any, instrument: str = "isgri", products: dict[str, str] | None = None) -> str:
    """Return a description as by `api/meta-data` of dispatcher 1.3.6."""
    parts = parts or (SOURCE, INSTRUMENT, IMAGE, CURVE)
    return json.dumps([[{"instrumet": instrument}, {"prod_dict": products or PRODUCTS}, *parts]])


def old_meta_data() -> str:
    """Return a description as by dispatchers up to November 2024: JSON within JSON, without types."""
    bare = [
        [
            {key: value for key, value in entry.items() if key not in {"owl_uri", "restrictions"}}
            for entry in part
            if not str(entry.get("name")).endswith(("_format", "_units"))
        ]
        for part in (SOURCE, INSTRUMENT[:9], IMAGE, CURVE)
    ]
    return meta_data(*map(json.dumps, bare))


SCHEMA: Schema = read_schema(meta_data())
OLD_SCHEMA: Schema = read_schema(old_meta_data())

IMAGE_ARGUMENTS = "instrument=isgri&product_type=isgri_image&query_type=Real&api=True"


def normalised(words: str, schema: Schema | None = SCHEMA) -> NormalisedQuery:
    """Read the words of a request for an image, beside those that every such request has."""
    return normalise(split_query(parse_fields(f"{IMAGE_ARGUMENTS}&{words}"))[0], schema)
