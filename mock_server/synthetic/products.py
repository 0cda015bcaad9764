"""Generates data products for an observation, with the templates of the shipped ones.

A source is a power law whose flux depends on the mock's seed, its name and its position, so that it is the same in
mosaics, light curves and spectra. Half of a coded mask is open: half of the detector sees the source, the other half
measures the background, and the noise of both differs from query to query.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.synthetic import light_curves, sky
from mock_server.synthetic.isgri_mosaic import units_of_today
from mock_server.synthetic.observation import DAY, Place, revolution
from mock_server.synthetic.random_numbers import random_state
from mock_server.synthetic.root_file import histogram_file
from mock_server.synthetic.templates import detector, product_template
from oda_proxy.codec.product import Card, DataProduct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from mock_server.synthetic.observation import Observation
    from mock_server.synthetic.templates import Detector, ProductTemplate
    from oda_proxy.codec.product import DataUnit, HeaderValue

    Array = NDArray[np.float64]

_CRAB: Final = (9.7, 2.1)
"""Photons/(cm2 s keV) at 1 keV and index (A. Toor and F. Seward 1974, AJ 79, 995)."""
_FIELD_SOURCES: Final = 3
_ACS_RATE: Final = 75_700.0
_STRUCTURE: Final = frozenset({"SIMPLE", "BITPIX", "NAXIS", "EXTEND"})
_CHECKSUMS: Final = frozenset({"CHECKSUM", "DATASUM"})
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


@dataclass(frozen=True)
class _Source:
    place: Place
    norm: float
    index: float
    number: int

    def rates(self, instrument: Detector) -> Array:
        return instrument.fold(lambda energy: np.asarray(self.norm * energy**-self.index))


def generate(observation: Observation, *, as_in_2019: bool = True) -> GeneratedProducts:
    """Generate the products of an observation.

    Mosaics of ISGRI had a map of significance only in 2019, and have four maps today.

    Raises
    ------
    FixtureError
        A shipped fixture that is used as a template is damaged.
    """
    pattern = product_template(observation.instrument, observation.product)
    match observation.product.removeprefix(f"{observation.instrument}_"):
        case "image":
            return _image(observation, pattern, as_in_2019=as_in_2019)
        case "spectrum":
            return _spectra(observation, pattern)
    match observation.instrument:
        case "polar":
            return _polar(observation, pattern)
        case "spi_acs":
            return _acs(observation, pattern)
    return _light_curves(observation, pattern)


# -- products -------------------------------------------------------------------------------------


def _image(observation: Observation, pattern: ProductTemplate, *, as_in_2019: bool) -> GeneratedProducts:
    instrument = detector(observation.instrument)
    (template,) = pattern.products
    primary, image = template.units
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
    seen = _apart(
        _in_field(_sources(observation, instrument), header, instrument.telescope), header, instrument.telescope
    )
    significances = [_significance(source, instrument, observation) for source in seen]
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
    first, mosaic = _primary(primary, observation), _filled(image, data, header)
    units: tuple[DataUnit, ...] = (first, mosaic)
    if observation.instrument == "isgri" and not as_in_2019:
        background = float(instrument.background @ instrument.shares(observation.band))
        units = units_of_today(first, mosaic, observation.exposed, background, observation.band)
    return GeneratedProducts(
        products=(_of_unit(replace(template, meta_data=meta_data, units=units), observation),),
        files=pattern.files,
        catalog=_catalog(pattern.answer.products["catalog"], found),
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
    for source in _sources(observation, instrument):
        rate = float(source.rates(instrument) @ shares)
        seed = observation.random_seed ^ _number(source.place.name)
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
    sources: list[_Source | None] = [*_sources(observation, instrument)]
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


def _counted(source: _Source | None, instrument: Detector, observation: Observation, name: str) -> tuple[Array, Array]:
    """Return rates and errors in each channel, in counts per second."""
    background = instrument.background
    if source is None:
        return background, np.sqrt(background / observation.exposed)
    rates = source.rates(instrument)
    errors = np.sqrt((rates + 2 * background) / observation.exposed)
    return random_state(observation.random_seed ^ _number(name)).normal(rates, errors), errors


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
    return GeneratedProducts((replace(template, meta_data=meta_data, units=units),), pattern.files)


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


# -- sources --------------------------------------------------------------------------------------


def _sources(observation: Observation, instrument: Detector) -> list[_Source]:
    """Return the selected sources; without a selection the source of the query, and some more in its field."""
    if observation.selected is not None:
        places = list(observation.selected)
        return [_source(observation, place, number) for number, place in enumerate(places, 1)]
    target = observation.target
    random = random_state(_number(f"{observation.seed} {observation.instrument} {target.ra} {target.dec}"))
    reach = 0.35 * instrument.telescope.field_of_view_deg
    offsets = random.uniform(-reach, reach, (_FIELD_SOURCES, 2))
    field = [_beside(target, f"NEW_{number}", *offset) for number, offset in enumerate(offsets, 1)]
    named = Place(target.name or "query", target.ra, target.dec)
    faint = [_source(observation, place, number, brightest=-1.5) for number, place in enumerate(field, 2)]
    return [_source(observation, named, 1), *faint]


def _source(observation: Observation, place: Place, number: int, *, brightest: float = 0.0) -> _Source:
    """Draw brightness, within a decade below a power of ten of the Crab's, and index of a source."""
    random = random_state(_number(f"{observation.seed} {place.name} {place.ra:.3f} {place.dec:.3f}"))
    return _Source(
        place=place,
        norm=_CRAB[0] * 10 ** round(random.uniform(brightest - 1, brightest), 3),
        index=round(random.uniform(1.8, 2.8), 3),
        number=number,
    )


def _beside(centre: Place, name: str, east: float, north: float) -> Place:
    """Return the position at an offset in degrees in the tangent plane at the centre."""
    x, y = np.radians([east, north])
    dec = np.radians(centre.dec)
    depth = np.cos(dec) - y * np.sin(dec)
    ra = np.degrees(np.arctan2(x, depth))
    up = np.degrees(np.arctan2(np.sin(dec) + y * np.cos(dec), np.hypot(x, depth)))
    return Place(name, round(float(centre.ra + ra) % 360, 4), round(float(up), 4))


def _in_field(sources: Iterable[_Source], header: Mapping[str, Any], telescope: sky.Telescope) -> list[_Source]:
    """Return the sources in the field of view."""
    ra, dec = np.radians([header["CRVAL1"], header["CRVAL2"]])
    seen = []
    for source in sources:
        a, d = np.radians([source.place.ra, source.place.dec])
        away = np.degrees(np.arccos(np.clip(np.sin(d) * np.sin(dec) + np.cos(d) * np.cos(dec) * np.cos(a - ra), -1, 1)))
        if away < 0.47 * telescope.field_of_view_deg:
            seen.append(source)
    return seen


def _apart(sources: Iterable[_Source], header: Mapping[str, Any], telescope: sky.Telescope) -> list[_Source]:
    """Return the sources that the mosaic resolves from earlier ones."""
    resolved: list[_Source] = []
    places: list[tuple[float, float]] = []
    least = telescope.psf_fwhm_arcmin / 60 / float(header["CD2_2"])
    for source in sources:
        x, y = sky.pixels(header, np.array([source.place.ra]), np.array([source.place.dec]))
        if all(np.hypot(x[0] - other[0], y[0] - other[1]) > 2 * least + 3 for other in places):
            resolved.append(source)
            places.append((float(x[0]), float(y[0])))
    return resolved


def _significance(source: _Source, instrument: Detector, observation: Observation) -> float:
    shares = instrument.shares(observation.band)
    rate = float(source.rates(instrument) @ shares)
    return round(rate / float(np.sqrt((rate + 2 * instrument.background @ shares) / observation.exposed)), 4)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


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


def _object(source: _Source | None) -> dict[str, HeaderValue]:
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


def _catalog(template: Mapping[str, Any], found: list[tuple[_Source, float]]) -> dict[str, Any]:
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
