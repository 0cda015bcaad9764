"""Files of products: FITS, the natural form of each, headers to read, archives of all, fixtures."""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from astropy.io import fits as astropy_fits

from oda_proxy.capsule.conversion import fixture_from_recording
from oda_proxy.codec import fits, wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.drawing.file_names import safe_name
from oda_proxy.drawing.product_list import Catalog, NoProductError, find_product, list_products, name_of
from oda_proxy.errors import CodecError, FixtureError
from oda_proxy.files.git_attributes import write_git_attributes
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO

    from oda_proxy.codec.product import Array
    from oda_proxy.drawing.product_list import Content
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording

_INTEGERS: Final = 2**63
_MISSING: Final = "not-included.txt"


def fits_file(products: Mapping[str, Any], number: int) -> bytes:
    """Return a product with arrays, or a catalogue, as a FITS file.

    Raises NoProductError for another product, CodecError as `codec.fits`.
    """
    content = find_product(products, number).content()
    if isinstance(content, Catalog):
        return fits.write([_catalog_table(content)])
    if not isinstance(content, DataProduct):
        raise NoProductError(f"product {number} has no arrays, and so no FITS file; products.zip has it as it is")
    return _fits(content)


def header_text(products: Mapping[str, Any], number: int, unit: int) -> str:
    """Return the header of a data unit of a product, one card in a line. Raises NoProductError."""
    content = find_product(products, number).content()
    units = content.units if isinstance(content, DataProduct) else ()
    if not 0 <= unit < len(units):
        raise NoProductError(f"product {number} has {len(units)} data units, counted from 0, and no unit {unit}")
    return "".join(f"{_card_line(card)}\n" for card in units[unit].header)


def _card_line(card: Any) -> str:
    """Return a card as FITS writes it, or as close to that as its value allows."""
    if fits.can_store(card):
        try:
            return str(astropy_fits.Card(*card)).rstrip()
        except (ValueError, TypeError):  # a keyword of more than eight characters in the older form
            pass
    comment = f" / {card.comment}" if card.comment else ""
    return shorten(f"{card.keyword:<8}= {card.value!r}{comment}", 400)


def write_archive(file: IO[bytes], recording: Recording, products: Mapping[str, Any]) -> None:
    """Write all products, each in its natural form, and the query to a ZIP file; catalogues as FITS tables, too.

    What has no form as a file is named in `not-included.txt`.
    """
    date = time.gmtime(max(recording.stored_at, 315_532_800.0))[:6]  # the first date of the format is in 1980
    missing = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def add(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, date), content, zipfile.ZIP_DEFLATED)

        for listed in list_products(products):
            try:
                content = listed.content()
                name, data = _natural_form(content)
            except (CodecError, ValueError) as error:
                missing.append(f"product {listed.number} ({listed.member}): {error}\n")
                continue
            add(f"{listed.number:03d}-{name}", data)
            if isinstance(content, Catalog):
                try:
                    add(f"{listed.number:03d}-catalogue.fits", fits.write([_catalog_table(content)]))
                except (CodecError, ValueError) as error:
                    missing.append(f"product {listed.number} ({listed.member}) as a table: {error}\n")
        add("query.json", query_text(recording.query).encode())
        if missing:
            add(_MISSING, "".join(missing).encode("utf-8", "replace"))


def write_fixture_archive(file: IO[bytes], recording: Recording, source: str) -> None:
    """Write a recording as a folder of fixtures in a ZIP file; `source` is the address of its dispatcher.

    Raises OdaProxyError where it has no form as a fixture.
    """
    path, query, answer = fixture_from_recording(recording)
    date = time.gmtime(max(recording.stored_at, 315_532_800.0))[:6]
    with TemporaryFolder("fixture") as name:
        folder = Path(name)
        try:
            write_fixture(folder, path, query, answer)
        except FixtureError as error:
            raise CodecError(f"it has no form as a fixture: {str(error).replace(f'{folder}/', '')}") from None
        write_manifest(folder, {path: {"kind": "recorded", "source": source, "modelled": []}})
        write_git_attributes(folder)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for one in sorted(folder.rglob("*")):
                if one.is_file():
                    entry = zipfile.ZipInfo(one.relative_to(folder).as_posix(), date)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with archive.open(entry, "w", force_zip64=True) as target, one.open("rb") as content:
                        while piece := content.read(1 << 20):
                            target.write(piece)


def query_text(query: Query | None) -> str:
    """Return a query as readable JSON, without the client."""
    if query is None:
        return "null\n"
    members: dict[str, Any] = {
        "instrument": query.instrument,
        "product_type": query.product_type,
        "query_type": query.query_type,
        **{name: values[0] if len(values) == 1 else list(values) for name, values in query.parameters},
    }
    return f"{json.dumps(members, indent=1, ensure_ascii=False)}\n"


def file_name(content: Content) -> str:
    """Return the name of the file of a product in its natural form."""
    return "".join(_named(content))


def _fits(product: DataProduct) -> bytes:
    """Return a product as a FITS file; a comment names each card that FITS cannot store, which is left out."""
    try:
        return fits.write(product.units)
    except CodecError:
        return fits.write([_storable(unit) for unit in product.units])


def _storable(unit: DataUnit) -> DataUnit:
    cards: list[Card] = []
    for card in unit.header:
        plain = card._replace(value=card.value.rstrip()) if isinstance(card.value, str) else card
        if fits.can_store(plain):
            cards.append(plain)
        else:
            name = shorten(card.keyword, 30).encode("ascii", "replace").decode("ascii")
            cards.append(Card("COMMENT", f"oda-proxy: FITS cannot store the card {name}"))
    return replace(unit, header=tuple(cards))


def _catalog_table(catalog: Catalog) -> DataUnit:
    """Return a catalogue as a table; a column with anything but numbers becomes texts."""
    columns = {name: _column(values) for name, values in catalog.columns.items()}
    rows = len(next(iter(columns.values()), ()))
    table = np.zeros(rows, [(name, values.dtype) for name, values in columns.items()])
    cards = []
    for number, (name, values) in enumerate(columns.items(), 1):
        table[name] = values
        if name.casefold() in {"ra", "dec", "err_rad"}:
            cards.append(Card(f"TUNIT{number}", "deg"))
    return DataUnit("CATALOG", tuple(cards), table, "bintable")


def _column(values: list[Any]) -> Array:
    if all(isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INTEGERS for value in values):
        return np.array(values, ">i8")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values, ">f8")
    texts = [("" if value is None else str(value)).encode("ascii", "replace") for value in values]
    return np.array(texts, f"S{max(map(len, texts), default=1) or 1}")


def _natural_form(content: Content) -> tuple[str, bytes]:
    """Return the name and the content of the file of a product."""
    match content:
        case DataProduct():
            data = _fits(content)
        case Catalog():
            data = f"{json.dumps(dict(content.columns), indent=1)}\n".encode()
        case wire.Picture() | wire.Binary():
            data = content.data
        case wire.Text():
            data = content.value.encode("utf-8", "surrogatepass")
        case _:
            data = content.text.encode("utf-8", "surrogatepass")
    return file_name(content), data


def _named(content: Content) -> Iterator[str]:
    match content:
        case DataProduct():
            yield safe_name(name_of(content))
            yield ".fits"
        case Catalog():
            yield "catalogue.json"
        case wire.Picture():
            yield safe_name(Path(content.filename or content.name or "picture").stem)
            yield f".{safe_name(content.img_type).casefold()}"
        case wire.Binary():
            name = content.name or "file"
            yield safe_name(Path(name).stem)
            yield f".{safe_name(Path(name).suffix)}" if Path(name).suffix else ".bin"
        case wire.Text():
            yield safe_name(content.name or "text")
            yield ".txt"
        case wire.AsciiTable():
            yield safe_name(content.name or "table")
            yield ".ecsv" if content.text.startswith("# %ECSV") else ".txt"
        case _:
            yield safe_name(content.name)
            yield ".json"
