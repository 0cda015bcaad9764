"""Read and write folders of fixtures: recorded answers as JSON and FITS files (format: fixtures/README.md).

Opening a folder reads its manifest and nothing else. Whenever a file is read, it is checked against the size and digest
given there. What is not as the format says raises `FixtureError`, and nothing else, with the file's name.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import tempfile
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from oda_proxy.codec import json_text
from oda_proxy.errors import CodecError, FixtureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from oda_proxy.codec.product import DataProduct, DataUnit, HduType

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
INSTRUMENT_FILE: Final = "instrument.json"
QUERY_FILE: Final = "query.json"
ANSWER_FILE: Final = "answer.json"
ORIGIN_KINDS: Final = frozenset({"notebook", "synthetic", "recorded"})
PARAMETER_KINDS: Final = frozenset(
    {"float", "integer", "text", "time", "time_interval", "angle", "energy", "list", "boolean", "catalog"}
)

_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIXTURE_DEPTH = 3  # <instrument>/<product>/<slug>

# Who asked and how is no part of a fixture; the others have fields of their own.
_NO_PARAMETERS = frozenset(
    {"token", "session_id", "job_id", "oda_api_version", "query_status", "instrument", "product_type", "query_type"}
    | {"api", "dry_run"}
)

# The states that every release of the client knows (protocol: part 4.1).
_STATES = frozenset({"not-prepared", "prepared", "submitted", "progress", "ready", "done", "failed"})

# The products whose arrays are files; all others stand in answer.json.
_ONE_PRODUCT: Final = "numpy_data_product"
_PRODUCTS: Final = "numpy_data_product_list"
_BINARIES: Final = "binary_data_product_list"

ParameterValue: TypeAlias = str | int | float | list[str | int | float]


@dataclass(frozen=True)
class Limits:
    """What a folder of fixtures may ask of the machine that reads it."""

    json_bytes: int = 64 * 2**20
    member_bytes: int = 2**30
    members: int = 100_000


@dataclass(frozen=True)
class Member:
    """Size and digest of a file, as the manifest gives them."""

    size: int
    sha256: str


@dataclass(frozen=True)
class FixtureQuery:
    """What was asked; `product_type` and `query_type` are the names on the wire."""

    instrument: str
    product_type: str
    query_type: str
    parameters: Mapping[str, ParameterValue]
    api: bool = True
    dry_run: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FixtureAnswer:
    """What came back, the arrays left out; `timeline` is in seconds after the first request."""

    query_status: str
    exit_status: Mapping[str, str | int]
    timeline: tuple[tuple[str, float], ...]
    products: Mapping[str, Any]


@dataclass(frozen=True)
class ParameterDescription:
    """One parameter of a query, as an instrument describes it."""

    name: str
    units: str | None
    value: Any
    kind: str | None = None
    restrictions: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class QueryDescription:
    """One query of an instrument; `product_name` where the query makes a product."""

    query_name: str
    product_name: str | None
    parameters: tuple[ParameterDescription, ...]
    synchronous: bool = False


@dataclass(frozen=True)
class Instrument:
    """An instrument's description; `prod_dict` maps its products to the names of their queries."""

    name: str
    prod_dict: Mapping[str, str]
    queries: tuple[QueryDescription, ...]


@dataclass(frozen=True)
class Fixture:
    """One recorded answer of an open folder; its files are read when asked for."""

    path: str
    origin: Mapping[str, Any]
    members: Mapping[str, Member]
    _root: Path = field(repr=False)
    _limits: Limits = field(repr=False)

    def read_file(self, name: str) -> bytes:
        """Return a file's bytes, checked against the manifest.

        Raises
        ------
        FixtureError
            The manifest does not list it, or it is missing, changed or larger than the limits allow.
        """
        file = self._root / self.path / name
        if name not in self.members:
            raise FixtureError(file, "the manifest does not list this file")
        return _read_member(self._root, f"{self.path}/{name}", self.members[name], self._limits)

    def query(self) -> FixtureQuery:
        """Read query.json; raises FixtureError."""
        document = self._json(QUERY_FILE)
        query = FixtureQuery(
            instrument=document.text("instrument"),
            product_type=document.text("product_type"),
            query_type=document.text("query_type"),
            parameters=MappingProxyType(document.mapping("parameters")),
            api=document.boolean("api", default=True),
            dry_run=document.boolean("dry_run", default=False),
            files=MappingProxyType(document.mapping("files", default={})),
        )
        for name, value in query.parameters.items():
            if name in _NO_PARAMETERS:
                raise document.error(
                    f"parameters hold {name!r}, which is none: a fixture does not say who asked or how"
                )
            if not _is_parameter_value(value):
                raise document.error(f"the parameter {name!r} is neither text nor a number nor a list of these")
        for name, digest in document.mapping("files", default={}).items():
            if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
                raise document.error(f"files gives no SHA-256 for {name!r}")
        return query

    def answer(self) -> FixtureAnswer:
        """Read answer.json, and check that the manifest lists the files it names; raises FixtureError."""
        document = self._json(ANSWER_FILE)
        answer = FixtureAnswer(
            query_status=document.text("query_status"),
            exit_status=MappingProxyType(document.mapping("exit_status")),
            timeline=tuple(_moment(document, entry) for entry in document.items("timeline")),
            products=MappingProxyType(document.mapping("products")),
        )
        if answer.query_status not in _STATES:
            raise document.error(f"query_status is {answer.query_status!r}, which no client knows")
        if not _is_whole(answer.exit_status.get("status")):
            raise document.error("exit_status has no whole number 'status'")
        for name, value in answer.exit_status.items():
            if name != "status" and not isinstance(value, str):
                raise document.error(f"exit_status.{name} is not text")
        times = [seconds for _, seconds in answer.timeline]
        if times != sorted(times):
            raise document.error("the timeline runs backwards")
        for entry in _entries_with_files(_Document(document.file, document.mapping("products"))):
            if entry.text("file") not in self.members:
                raise document.error(f"names the file {entry.text('file')[:80]!r}, which the manifest does not list")
        return answer

    def wire_products(self, *, form: Literal["pickle", "json"] = "pickle") -> dict[str, Any]:
        """Give `products` as on the wire, the arrays read from their files; slow where they are large.

        A binary product with a name is an object, one without is a text.

        Raises
        ------
        FixtureError
            answer.json or one of its files is not as the format says.
        CodecError
            The form `json` cannot carry an array.
        """
        from oda_proxy.codec import wire  # numpy and astropy, when an array is wanted

        units = _UnitReader(self)
        on_the_wire = dict(self.answer().products)
        file = self._root / self.path / ANSWER_FILE
        for key in on_the_wire.keys() & {_ONE_PRODUCT, _PRODUCTS, _BINARIES}:
            entries = on_the_wire[key]
            if key == _ONE_PRODUCT:
                on_the_wire[key] = wire.encode_product(units.product(_Document(file, entries)), form=form)
            elif key == _PRODUCTS:
                products = (units.product(_Document(file, entry)) for entry in entries)
                on_the_wire[key] = [wire.encode_product(product, form=form) for product in products]
            else:
                on_the_wire[key] = [self._wire_binary(_Document(file, entry)) for entry in entries]
        return on_the_wire

    def _wire_binary(self, entry: _Document) -> str | dict[str, Any]:
        from oda_proxy.codec import wire  # as above

        name = entry.text_or_none("name")
        content = self.read_file(entry.text("file"))
        return wire.encode_binary(content, name=name, form="text" if name is None else "object")

    def _json(self, name: str) -> _Document:
        return _Document.of_format_1(self._root / self.path / name, self.read_file(name), self._limits)


class _UnitReader:
    """The data units of a fixture's FITS files; each file is read once."""

    def __init__(self, fixture: Fixture) -> None:
        self._fixture = fixture
        self._units: dict[str, tuple[DataUnit, ...]] = {}

    def product(self, entry: _Document) -> DataProduct:
        from oda_proxy.codec.product import DataProduct  # as above

        name = entry.text("file")
        if name not in self._units:
            self._units[name] = self._read(name, entry)
        units = [self._unit(_Document(entry.file, unit), self._units[name]) for unit in entry.items("units")]
        return DataProduct(entry.text("name"), entry.mapping("meta_data", default={}), tuple(units))

    def _read(self, name: str, entry: _Document) -> tuple[DataUnit, ...]:
        from oda_proxy.codec import fits  # as above

        try:
            return fits.read(self._fixture.read_file(name))
        except CodecError as error:
            raise FixtureError(entry.file.with_name(name), str(error)) from None

    @staticmethod
    def _unit(entry: _Document, units: tuple[DataUnit, ...]) -> DataUnit:
        from oda_proxy.codec import recast, wire  # as above
        from oda_proxy.codec.product import Card

        number = entry.size("hdu")
        if number >= len(units):
            raise entry.error(f"names the HDU {number} of a file that has {len(units)}")
        hdu_type = entry.text_or_none("hdu_type")
        if hdu_type not in {None, "primary", "image", "bintable", "table"}:
            raise entry.error(f"a data unit has the unknown hdu_type {hdu_type!r}")
        data = units[number].data
        try:
            if data is not None and "dtype" in entry.value:
                data = recast.recast(wire.portable(data), recast.described(entry.value["dtype"]))
            if data is not None and entry.boolean("record", default=False):
                data = recast.as_records(data)
        except CodecError as error:
            raise entry.error(f"the data unit {entry.text('name')!r}: {error}") from None
        changed = entry.mapping("header", default={})
        cards = {card.keyword for card in units[number].header}
        header = [
            card._replace(value=changed.get(card.keyword, card.value))
            for card in units[number].header
            if changed.get(card.keyword, card) is not None
        ]
        header += [Card(keyword, value) for keyword, value in changed.items() if keyword not in cards]
        units_dict = entry.mapping("units_dict") if entry.value.get("units_dict") is not None else None
        return replace(
            units[number],
            name=entry.text("name"),
            header=tuple(header),
            data=data,
            hdu_type=cast("HduType | None", hdu_type),
            meta_data=entry.mapping("meta_data", default={}),
            units_dict=units_dict,
        )


@dataclass(frozen=True)
class FixtureFolder:
    """A folder of fixtures whose manifest was read and checked."""

    path: Path
    fixtures: tuple[Fixture, ...]
    instrument_files: Mapping[str, Member]
    origins: Mapping[str, Mapping[str, Any]]
    _limits: Limits = field(repr=False)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The descriptions of all instruments, read from their files; raises FixtureError."""
        return tuple(self.instrument(path.split("/")[0]) for path in self.instrument_files)

    def instrument(self, name: str) -> Instrument:
        """Read an instrument's description.

        Raises
        ------
        FixtureError
            The folder has no such instrument, or its file is not as the format says.
        """
        path = f"{name}/{INSTRUMENT_FILE}"
        file = self.path / path
        if path not in self.instrument_files:
            raise FixtureError(file, "the manifest does not list this file")
        content = _read_member(self.path, path, self.instrument_files[path], self._limits)
        document = _Document.of_format_1(file, content, self._limits)
        prod_dict = document.mapping("prod_dict")
        if document.text("instrument") != name:
            raise document.error(f"describes the instrument {document.text('instrument')!r}, not {name!r}")
        for product, query_name in prod_dict.items():
            if not isinstance(query_name, str):
                raise document.error(f"prod_dict gives no name of a query for {product!r}")
        queries = tuple(_query_description(_Document(file, entry)) for entry in document.items("queries"))
        missing = set(prod_dict.values()) - {query.query_name for query in queries}
        if missing:
            raise document.error(f"prod_dict names queries that are not described: {', '.join(sorted(missing))}")
        return Instrument(name, MappingProxyType(prod_dict), queries)


def open_folder(folder: Path, *, limits: Limits = Limits()) -> FixtureFolder:
    """Read and check the manifest of a folder of fixtures, and nothing else.

    Raises
    ------
    FixtureError
        The manifest is missing, larger than the limits allow, no strict JSON, of another format version, lists more
        files than the limits allow, or names a path that is not one of the format.
    """
    file = folder / MANIFEST
    document = _Document.of_format_1(file, _read(folder, MANIFEST, limits.json_bytes), limits)
    origins: dict[str, Mapping[str, Any]] = {}
    fixtures = []
    for entry in (_Document(file, item) for item in document.items("fixtures")):
        path = _relative(entry, entry.text("path"), parts=_FIXTURE_DEPTH)
        members = {
            _relative(entry, name, parts=1): _member(_Document(file, member))
            for name, member in entry.mapping("files").items()
        }
        for required in (QUERY_FILE, ANSWER_FILE):
            if required not in members:
                raise entry.error(f"lists no {required} for {path}")
        origins[path] = _origin(entry)
        fixtures.append(Fixture(path, origins[path], MappingProxyType(members), folder, limits))
    instrument_files = {}
    for entry in (_Document(file, item) for item in document.items("instruments")):
        path = _relative(entry, entry.text("path"), parts=2)
        if not path.endswith(f"/{INSTRUMENT_FILE}"):
            raise entry.error(f"lists {path} under instruments, where only {INSTRUMENT_FILE} files belong")
        origins[path] = _origin(entry)
        instrument_files[path] = _member(entry)
    for kind in ("fixtures", "instruments"):
        paths = [entry["path"] for entry in document.items(kind)]
        if paths != sorted(set(paths)):
            raise document.error(f"the {kind} do not stand in the order of their paths, each once")
    if len(instrument_files) + sum(len(fixture.members) for fixture in fixtures) > limits.members:
        raise document.error(f"lists more than {limits.members} files")
    return FixtureFolder(folder, tuple(fixtures), MappingProxyType(instrument_files), MappingProxyType(origins), limits)


def write_manifest(folder: Path, origins: Mapping[str, Mapping[str, Any]]) -> None:
    """Write manifest.json for the fixtures and descriptions of instruments that lie in a folder.

    Parameters
    ----------
    folder
        Root of the folder of fixtures.
    origins
        The origin of each fixture (by its path, `isgri/isgri_image/gx349`) and of each description
        (`isgri/instrument.json`), relative and with slashes: `{"kind": ..., "source": ..., "modelled": [...]}`.

    Raises
    ------
    FixtureError
        A listed path is not there, holds something that is no file, or has a name that the format does not allow.
    """
    fixtures = []
    instruments = []
    for path in sorted(origins):
        if path.endswith(f"/{INSTRUMENT_FILE}"):
            instruments.append({"path": path, "origin": origins[path], **_measure(folder, path)})
            continue
        try:
            names = sorted(file.name for file in (folder / path).iterdir())
        except OSError as error:
            raise FixtureError(folder / path, f"cannot be listed: {error.strerror}") from None
        files = {name: _measure(folder, f"{path}/{name}") for name in names}
        fixtures.append({"path": path, "origin": origins[path], "files": files})
    document = {"format": FORMAT, "fixtures": fixtures, "instruments": instruments}
    try:
        content = json_text.dumps(document).encode()
    except (CodecError, UnicodeError) as error:
        raise FixtureError(folder / MANIFEST, str(error)) from None
    _replace(folder / MANIFEST, content)


@dataclass(frozen=True)
class _Document:
    """An object of a JSON file, whose members are checked when they are taken out."""

    file: Path
    value: Any

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            raise self.error(f"expected an object, found {_shown(self.value)}")

    @classmethod
    def of_format_1(cls, file: Path, content: bytes, limits: Limits) -> _Document:
        if len(content) > limits.json_bytes:
            raise FixtureError(file, f"is larger than {limits.json_bytes} bytes")
        try:
            document = cls(file, json_text.loads(content))
        except CodecError as error:
            raise FixtureError(file, str(error)) from None
        version = document.value.get("format")
        if not _is_whole(version) or version != FORMAT:
            raise document.error(f"is of format {_shown(version)}; this release reads format {FORMAT}")
        return document

    def error(self, reason: str) -> FixtureError:
        return FixtureError(self.file, reason)

    def text(self, name: str) -> str:
        value = self.value.get(name)
        if not isinstance(value, str):
            raise self.error(f"{name!r} should be text, found {_shown(value)}")
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self.value.get(name) is None else self.text(name)

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.value.get(name, default)
        if not isinstance(value, bool):
            raise self.error(f"{name!r} should be true or false, found {_shown(value)}")
        return value

    def size(self, name: str) -> int:
        value = self.value.get(name)
        if not _is_whole(value) or value < 0:
            raise self.error(f"{name!r} should be a whole number, found {_shown(value)}")
        return int(value)

    def items(self, name: str) -> list[Any]:
        value = self.value.get(name)
        if not isinstance(value, list):
            raise self.error(f"{name!r} should be a list, found {_shown(value)}")
        return value

    def mapping(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        value = self.value.get(name, default)
        if not isinstance(value, dict):
            raise self.error(f"{name!r} should be an object, found {_shown(value)}")
        return value


def _entries_with_files(products: _Document) -> Iterator[_Document]:
    """Give the entries of answer.json's products that stand for files."""
    if _ONE_PRODUCT in products.value:
        yield _Document(products.file, products.mapping(_ONE_PRODUCT))
    for key in (_PRODUCTS, _BINARIES):
        if key in products.value:
            yield from (_Document(products.file, entry) for entry in products.items(key))


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool):
        return "a whole number" if abs(value) > 10**20 else str(value)
    return "nothing" if value is None else repr(value)[:60]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_parameter_value(value: Any) -> bool:
    members = value if isinstance(value, list) else [value]
    return all(isinstance(member, (str, int, float)) and not isinstance(member, bool) for member in members)


def _moment(document: _Document, entry: Any) -> tuple[str, float]:
    match entry:
        case [str() as state, int() | float() as seconds] if state in _STATES and not isinstance(seconds, bool):
            if 0 <= seconds < math.inf:
                return state, float(min(seconds, 1e9))
    raise document.error(f"the timeline holds {str(entry)[:60]!r}, not a state and seconds")


def _query_description(entry: _Document) -> QueryDescription:
    return QueryDescription(
        query_name=entry.text("query_name"),
        product_name=entry.text_or_none("product_name"),
        parameters=tuple(_parameter_description(_Document(entry.file, item)) for item in entry.items("parameters")),
        synchronous=entry.boolean("synchronous", default=False),
    )


def _parameter_description(entry: _Document) -> ParameterDescription:
    kind = entry.text_or_none("kind")
    if kind is not None and kind not in PARAMETER_KINDS:
        raise entry.error(f"the parameter {entry.text('name')!r} has the unknown kind {kind!r}")
    if "value" not in entry.value:
        raise entry.error(f"the parameter {entry.text('name')!r} has no value; write null where it has no default")
    restrictions = entry.mapping("restrictions") if "restrictions" in entry.value else None
    return ParameterDescription(
        name=entry.text("name"),
        units=entry.text_or_none("units"),
        value=entry.value["value"],
        kind=kind,
        restrictions=None if restrictions is None else MappingProxyType(restrictions),
    )


def _origin(entry: _Document) -> Mapping[str, Any]:
    origin = _Document(entry.file, entry.mapping("origin"))
    if origin.text("kind") not in ORIGIN_KINDS:
        raise entry.error(f"{entry.text('path')} has the unknown kind of origin {origin.text('kind')!r}")
    origin.text("source")
    if not all(isinstance(item, str) for item in origin.items("modelled")):
        raise entry.error(f"'modelled' of {entry.text('path')} should be a list of texts")
    return MappingProxyType(origin.value)


def _member(entry: _Document) -> Member:
    if not _SHA256.fullmatch(entry.text("sha256")):
        raise entry.error(f"{entry.text('sha256')[:80]!r} is no SHA-256")
    return Member(entry.size("size"), entry.text("sha256"))


def _relative(entry: _Document, path: str, *, parts: int) -> str:
    names = path.split("/")
    if len(names) != parts or not all(_NAME.fullmatch(name) for name in names):
        raise entry.error(f"{path[:200]!r} is not a path of {parts} names made of letters, digits, . _ - and +")
    return path


def _read_member(root: Path, relative: str, member: Member, limits: Limits) -> bytes:
    if member.size > limits.member_bytes:
        raise FixtureError(root / relative, f"is larger than {limits.member_bytes} bytes")
    content = _read(root, relative, member.size)
    if len(content) != member.size:
        raise FixtureError(root / relative, f"has {len(content)} bytes where the manifest says {member.size}")
    if hashlib.sha256(content).hexdigest() != member.sha256:
        raise FixtureError(root / relative, "was changed: its SHA-256 is not the one in the manifest")
    return content


def _read(root: Path, relative: str, limit: int) -> bytes:
    file = root / relative
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise FixtureError(file, "lies outside the folder of fixtures")
        if not stat.S_ISREG(real.stat().st_mode):  # before it is opened: a pipe would wait for a writer
            raise FixtureError(file, "is no file")
        with real.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise FixtureError(file, f"cannot be read: {error.strerror or error}") from None
    except (
        RuntimeError,
        ValueError,
    ) as error:  # a loop of symbolic links before Python 3.13; a NUL in the folder's name
        raise FixtureError(file, f"cannot be read: {error}") from None
    if len(content) > limit:
        raise FixtureError(file, f"is larger than {limit} bytes")
    return content


def _measure(root: Path, relative: str) -> dict[str, int | str]:
    file = root / relative
    if not all(_NAME.fullmatch(name) for name in relative.split("/")):
        raise FixtureError(file, "the format allows letters, digits, . _ - and + in names, and no dot in front")
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise FixtureError(file, "is no file")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        return {"size": file.stat().st_size, "sha256": digest.hexdigest()}
    except OSError as error:
        raise FixtureError(file, f"cannot be read: {error.strerror}") from None


def _replace(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)  # noqa: PTH101  # fixtures are for everyone; temporary files are not
            os.replace(temporary, file)  # noqa: PTH105  # temporary is text
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108
            raise
    except OSError as error:
        raise FixtureError(file, f"cannot be written: {error.strerror}") from None
