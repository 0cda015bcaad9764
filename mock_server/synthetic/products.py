"""Generates data products for an observation, with the templates of the shipped ones.

Half of a coded mask is open: half of the detector sees the source, the other half measures the background, and the
noise of both differs from query to query.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.synthetic import isgri_mosaic, light_curves, sky
from mock_server.synthetic.observation import DAY, revolution
from mock_server.synthetic.random_numbers import random_state
from mock_server.synthetic.root_file import histogram_file
from mock_server.synthetic.sources import in_field, resolved, seed_of, significance_of, sources_of
from mock_server.synthetic.templates import detector, product_template
from oda_proxy.codec.product import Card, DataProduct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mock_server.settings import Generation
    from mock_server.synthetic.observation import Observation
    from mock_server.synthetic.sources import Source
    from mock_server.synthetic.templates import Detector, ProductTemplate
    from oda_proxy.codec.product import DataUnit, HeaderValue

    Array = NDArray[np.float64]

_ACS_RATE: Final = 75_700.0
_STRUCTURE: Final = frozenset({"SIMPLE", "BITPIX", "NAXIS", "EXTEND"})
_CHECKSUMS: Final = frozenset({"CHECKSUM", "DATASUM"})
_OF_ONE_MAP: Final = frozenset({"IMATYPE", "EXTVER", "BUNIT"})
"""Cards in which the maps of a mosaic differ."""
_MAX_TEXT: Final = 60
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_JEMX_2: Final = "JMX2"


@dataclass(frozen=True)
class GeneratedProducts:
    """Products with the names of their files, a catalogue, and other files."""

    products: tuple[DataProduct, ...]
    files: tuple[str, ...]
    catalog: Mapping[str, Any] | None = None
    binaries: Mapping[str, bytes] | None = None


def generate(observation: Observation, generation: Generation) -> GeneratedProducts:
    """Generate the products of an observation.

    Mosaics of ISGRI had a map of significance only in 2019, and have four maps today.

    Raises
    ------
    FixtureError
        A shipped fixture that is used as a template is damaged.
    """
    pattern = product_template(observation.instrument, observation.product, generation)
    match observation.product.removeprefix(f"{observation.instrument}_"):
        case "image":
            return _image(observation, pattern)
        case "spectrum":
            return _spectra(observation, pattern)
    match observation.instrument:
        case "polar":
            return _polar(observation, pattern)
        case "spi_acs":
            return _acs(observation, pattern)
    return _light_curves(observation, pattern)


# -- products -------------------------------------------------------------------------------------


def _image(observation: Observation, pattern: ProductTemplate) -> GeneratedProducts:
    instrument = detector(observation.instrument)
    (template,) = pattern.products
    *_, image = template.units
    header = {card.keyword: card.value for card in image.header}
    columns, rows = int(str(header["NAXIS1"])), int(str(header["NAXIS2"]))
    header |= {
        **_when(observation),
        **_band(observation),
        "CRVAL1": observation.target.ra,
        "CRVAL2": observation.target.dec,
        "CRPIX1": (columns + 1) / 2,
        "CRPIX2": (rows + 1) / 2,
    }
    seen = resolved(
        in_field(sources_of(observation, instrument), header, instrument.telescope), header, instrument.telescope
    )
    significances = [significance_of(source, instrument, observation) for source in seen]
    catalog = {
        "cat_column_names": ("ra", "dec", "significance"),
        "cat_column_list": (
            [source.place.ra for source in seen],
            [source.place.dec for source in seen],
            significances,
        ),
    }
    data = sky.mosaic(instrument.telescope, header, catalog, observation.random_seed).astype(_type(image))
    meta_data = dict(template.meta_data)
    if "query_parameters" in meta_data:
        meta_data["query_parameters"] = _repeated(str(meta_data["query_parameters"]), observation.parameters)
    threshold = observation.parameters.get("detection_threshold") or 0.0
    found = [(source, value) for source, value in zip(seen, significances, strict=True) if value >= threshold]
    if len(template.units) > 2:  # noqa: PLR2004 - a primary HDU and the map
        units = _units_of_maps(template, observation, data, header)
    else:
        units = (_primary(template.units[0], observation), _filled(image, data, header))
    return GeneratedProducts(
        products=(_of_unit(replace(template, meta_data=meta_data, units=units), observation),),
        files=pattern.files,
        catalog=_catalog(pattern.answer.products["catalog"], found),
    )


def _units_of_maps(
    template: DataProduct, observation: Observation, significance: NDArray[Any], header: Mapping[str, Any]
) -> tuple[DataUnit, ...]:
    """Return the units of a mosaic of ISGRI with four maps."""
    instrument = detector(observation.instrument)
    background = float(instrument.background @ instrument.shares(observation.band))
    primary, index, *images = template.units
    common = {name: value for name, value in header.items() if name not in _OF_ONE_MAP}
    maps = isgri_mosaic.maps(significance, header, observation.exposed, background)
    return (
        primary,
        _filled(index, isgri_mosaic.index_table(observation.band), {}),
        *(_filled(image, pixels.astype(_type(image)), common) for image, pixels in zip(images, maps, strict=True)),
    )


def _light_curves(observation: Observation, pattern: ProductTemplate) -> GeneratedProducts:
    instrument = detector(observation.instrument)
    template = pattern.products[0]
    edges = np.minimum(observation.start + observation.time_bin * np.arange(observation.bins + 1), observation.stop)
    widths = np.diff(edges)
    first, _ = observation.terrestrial
    times = first + ((edges[:-1] + edges[1:]) / 2 - observation.start) / DAY
    shares = instrument.shares(observation.band)
    background = float(instrument.background @ shares)
    products = []
    for source in sources_of(observation, instrument):
        rate = float(source.rates(instrument) @ shares)
        seed = observation.random_seed ^ seed_of(source.place.name)
        curve = np.zeros(observation.bins, _type(template.units[1]))
        if observation.instrument == "jemx":
            curve[:] = light_curves.jemx(times, widths, rate, background, seed)
        else:
            _fill_isgri(curve, times, widths, (rate, background), seed)
        header = {
            **_when(observation),
            **_band(observation),
            **_object(source),
            "TIMEDEL": float(widths.max()) / DAY,
        }
        units = (_primary(template.units[0], observation), _filled(template.units[1], curve, header))
        meta_data = {**template.meta_data, "src_name": source.place.name, "time_bin": observation.time_bin / DAY}
        products.append(_of_unit(replace(template, meta_data=meta_data, units=units), observation))
    return GeneratedProducts(tuple(products), pattern.files[:1] * len(products))


def _fill_isgri(curve: NDArray[Any], times: Array, widths: Array, rates: tuple[float, float], seed: int) -> None:
    """Fill a light curve of ISGRI; `rates` are those of source and background, in counts per second."""
    random = random_state(seed)
    rate, background = rates
    errors = np.sqrt((rate + 2 * background) / widths)
    curve["TIME"], curve["ERROR"] = times, errors
    curve["RATE"] = random.normal(rate, errors)
    curve["BACKE"] = np.sqrt(background / widths)
    curve["BACKV"] = random.normal(background, curve["BACKE"])
    curve["TOT_COUNTS"] = curve["RATE"] + curve["BACKV"]
    curve["FRACEXP"] = widths / widths.max()


def _spectra(observation: Observation, pattern: ProductTemplate) -> GeneratedProducts:
    instrument = detector(observation.instrument)
    spectrum, *responses = pattern.products
    sources: list[Source | None] = [*sources_of(observation, instrument)]
    if observation.instrument == "isgri":
        sources.append(None)  # the background
    products = []
    for source in sources:
        name = "Background" if source is None else source.place.name
        rates, errors = _counted(source, instrument, observation, name)
        table = np.zeros(len(rates), _type(spectrum.units[1]))
        table["CHANNEL"], table["GROUPING"] = np.arange(len(rates)), 1
        table["RATE"], table["STAT_ERR"] = rates, errors
        header = {**_when(observation), **_object(source)}
        units = (_primary(spectrum.units[0], observation), _filled(spectrum.units[1], table, header))
        own_responses = (
            replace(part, units=(_primary(part.units[0], observation), *part.units[1:])) for part in responses
        )
        for product in (replace(spectrum, units=units), *own_responses):
            named = replace(product, meta_data={**product.meta_data, "src_name": name})
            products.append(_of_unit(named, observation))
    return GeneratedProducts(tuple(products), pattern.files * len(sources))


def _counted(source: Source | None, instrument: Detector, observation: Observation, name: str) -> tuple[Array, Array]:
    """Return rates and errors in each channel, in counts per second."""
    background = instrument.background
    if source is None:
        return background, np.sqrt(background / observation.exposed)
    rates = source.rates(instrument)
    errors = np.sqrt((rates + 2 * background) / observation.exposed)
    return random_state(observation.random_seed ^ seed_of(name)).normal(rates, errors), errors


def _acs(observation: Observation, pattern: ProductTemplate) -> GeneratedProducts:
    (template,) = pattern.products
    width, length = observation.time_bin, observation.bins * observation.time_bin
    curve = np.zeros(observation.bins, _type(template.units[1]))
    curve["TIME"] = np.round(width * (np.arange(observation.bins) + 0.5) - length / 2, 3)
    curve["RATE"] = light_curves.acs_rates(_ACS_RATE, width, observation.bins, observation.random_seed)
    curve["ERROR"] = np.sqrt(curve["RATE"] / width)
    header: dict[str, HeaderValue] = {
        **_when(observation),
        "TIMEDEL": width,
        "ONTIME": length,
        "TIMEZERO": observation.start + length / 2,
        "TSTART": observation.start,
        "TSTOP": observation.start + length,
    }
    units = (template.units[0], _filled(template.units[1], curve, header))
    meta_data = {**template.meta_data, "time_bin": width}
    return GeneratedProducts((replace(template, meta_data=meta_data, units=units),), pattern.files, binaries={})


def _polar(observation: Observation, pattern: ProductTemplate) -> GeneratedProducts:
    (template,) = pattern.products
    begin = _EPOCH + timedelta(seconds=observation.start)
    width, bins = observation.time_bin, observation.bins
    rates = light_curves.polar(begin.timestamp(), bins, width, observation.random_seed)
    curve = rates.astype(_type(template.units[1]))
    header = {**_when(observation), "TIMEDEL": width}
    units = (template.units[0], _filled(template.units[1], curve, header))
    product = replace(template, meta_data={**template.meta_data, "time_bin": width}, units=units)
    root = histogram_file("lc.root", "lc", (0.0, bins * width), rates["rate"], rates["rate_err"], created=begin)
    return GeneratedProducts((product,), pattern.files, binaries={"lc.root": root})


# -- headers and meta data ------------------------------------------------------------------------


def _filled(unit: DataUnit, data: NDArray[Any], changes: Mapping[str, Any]) -> DataUnit:
    """Return a unit with other data; cards in `changes` are changed if it has them, checksums are removed."""
    cards = (card for card in unit.header if card.keyword not in _CHECKSUMS)
    header = tuple(card._replace(value=changes.get(card.keyword, card.value)) for card in cards)
    return replace(unit, header=header, data=data)


def _primary(unit: DataUnit, observation: Observation) -> DataUnit:
    """Return a primary header with the query, like that of the fixture."""
    structure = tuple(card for card in unit.header if card.keyword in _STRUCTURE)
    query = {"instrument": observation.instrument, "product_type": observation.product, **observation.parameters}
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in sorted(query.items())
        if value is not None and name != "selected_catalog"
    }
    cards = tuple(Card(name, _ascii(text)) for name, text in texts.items())
    return replace(unit, header=structure + cards)


def _when(observation: Observation) -> dict[str, HeaderValue]:
    start, stop = observation.terrestrial
    begin, end = (
        (_EPOCH + timedelta(seconds=at)).replace(tzinfo=None).isoformat(timespec="milliseconds")
        for at in (observation.start, observation.stop)
    )
    lasting = observation.stop - observation.start
    return {
        "TSTART": start,
        "TSTOP": stop,
        "TFIRST": start,
        "TLAST": stop,
        "DATE-OBS": begin,
        "DATE-END": end,
        "ONTIME": observation.exposed,
        "TELAPSE": lasting,
        "EXPOSURE": observation.exposed,
        "EXP_SRC": observation.exposed,
        "REVOL": revolution(start),
    }


def _band(observation: Observation) -> dict[str, HeaderValue]:
    low, high = observation.band
    return {"E_MIN": low, "E_MAX": high, "E_MEAN": (low + high) / 2, "CHANMIN": int(low), "CHANMAX": int(high)}


def _object(source: Source | None) -> dict[str, HeaderValue]:
    if source is None:
        return {"NAME": "Background", "RA_OBJ": 0.0, "DEC_OBJ": 0.0, "SOURCEID": ""}
    place = source.place
    tenths, arcsec = int(place.ra * 2400), round(abs(place.dec) * 3600)
    hours = f"{tenths // 36000:02d}{tenths // 600 % 60:02d}{tenths % 600 / 10:04.1f}"
    sign = "-" if place.dec < 0 else "+"
    identifier = f"J{hours}{sign}{arcsec // 3600:02d}{arcsec // 60 % 60:02d}{arcsec % 60:02d}"
    return {
        "NAME": _ascii(place.name),
        "RA_OBJ": place.ra,
        "DEC_OBJ": place.dec,
        "SOURCEID": identifier,
        "EXTVER": source.number,
    }


def _ascii(text: str) -> str:
    """Return a text that fits into a header card."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)[:_MAX_TEXT]


def _type(unit: DataUnit) -> np.dtype[Any]:
    assert unit.data is not None  # noqa: S101 - the second unit of each shipped product has data
    return unit.data.dtype


def _repeated(text: str, parameters: Mapping[str, Any]) -> str:
    """Return the meta data of a mosaic with the values of the parameters as text."""
    items = json.loads(text)
    for item in items:
        if "name" in item:
            value = parameters.get(item["name"])
            item["value"] = None if value is None else str(value)
    return json.dumps(items)


def _catalog(template: Mapping[str, Any], found: list[tuple[Source, float]]) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        "meta_ID": [source.number for source, _ in found],
        "src_names": [source.place.name for source, _ in found],
        "significance": [value for _, value in found],
        "ra": [source.place.ra for source, _ in found],
        "dec": [source.place.dec for source, _ in found],
        "NEW_SOURCE": [1 if source.place.name.startswith("NEW_") else -32768 for source, _ in found],
        "FLAG": [0] * len(found),
        "ERR_RAD": [0.00028] * len(found),
    }
    names = template["cat_column_names"]
    widest = max((len(source.place.name) for source, _ in found), default=1) or 1
    described = [[name, f"<U{widest}" if name == "src_names" else kind] for name, kind in template["cat_column_descr"]]
    detected = [2] * len(found)  # the flag of the instrument: ISGRI_FLAG or JEMX_FLAG
    return {
        **template,
        "cat_column_list": [columns.get(name, detected) for name in names],
        "cat_column_descr": described,
    }


def _of_unit(product: DataProduct, observation: Observation) -> DataProduct:
    """Rename JEM-X 2, as in the template, to JEM-X 1 if the query is for that."""
    if observation.parameters.get("jemx_num") != 1:
        return product
    units = tuple(
        replace(
            unit,
            name=_first_unit(unit.name),
            header=tuple(card._replace(value=_first_unit(card.value)) for card in unit.header),
        )
        for unit in product.units
    )
    return replace(product, units=units)


def _first_unit(value: Any) -> Any:
    return value.replace(_JEMX_2, "JMX1") if isinstance(value, str) else value
