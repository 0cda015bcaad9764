"""Read and write folders of fixtures: recorded answers as JSON and FITS files (format: fixtures/README.md).

Opening a folder reads its manifest and nothing else. Whenever a file is read, it is checked against the size and digest
given there. What is not as the format says raises `FixtureError`, and nothing else, with the file's name.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from oda_proxy import listed
from oda_proxy.codec import json_text
from oda_proxy.codec.json_text import Document
from oda_proxy.errors import CodecError, FixtureError
from oda_proxy.listed import SHA256, Member

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator, Mapping
    from contextlib import AbstractContextManager

    from oda_proxy.codec.product import DataUnit

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
_FIXTURE_DEPTH = 3  # <instrument>/<product>/<slug>
LONGEST_WAIT = 1e9  # seconds
_MOST_FILES = 10_000  # of one fixture that we write

# Who asked and how is no part of a fixture; the others have fields of their own.
_NO_PARAMETERS = frozenset(
    {"token", "session_id", "job_id", "oda_api_version", "query_status", "instrument", "product_type", "query_type"}
    | {"api", "dry_run"}
)

# The states that every release of the client knows (protocol: part 4.1).
STATES = frozenset({"not-prepared", "prepared", "submitted", "progress", "ready", "done", "failed"})

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
    """What came back, the arrays left out; `timeline` is in seconds after the first request.

    `recorded` is what else a recording says of itself (`as_fixture`); None for an answer that was not recorded.
    """

    query_status: str
    exit_status: Mapping[str, str | int]
    timeline: tuple[tuple[str, float], ...]
    products: Mapping[str, Any]
    recorded: Mapping[str, Any] | None = None


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

    def file(self, name: str) -> Path:
        """Say where a file lies."""
        return self._root / self.path / name

    def read_file(self, name: str) -> bytes:
        """Return a file's bytes, checked against the manifest.

        Raises
        ------
        FixtureError
            The manifest does not list it, or it is missing, changed or larger than the limits allow.
        """
        if name not in self.members:
            raise FixtureError(self.file(name), "the manifest does not list this file")
        return listed.read_member(
            self._root, f"{self.path}/{name}", self.members[name], limit=self._limits.member_bytes
        )

    def query(self) -> FixtureQuery:
        """Read query.json; raises FixtureError."""
        with self._blaming(QUERY_FILE):
            return _read_query(self._document(QUERY_FILE))

    def answer(self) -> FixtureAnswer:
        """Read answer.json, and check that the manifest lists the files it names; raises FixtureError."""
        with self._blaming(ANSWER_FILE):
            answer = _read_answer(self._document(ANSWER_FILE))
            for entry in _entries_with_files(answer.products):
                if entry.text("file") not in self.members:
                    raise CodecError(f"names the file {entry.text('file')[:80]!r}, which the manifest does not list")
            return answer

    def wire_products(self, *, form: Literal["pickle", "json"] = "pickle") -> dict[str, Any]:
        """Give `products` as on the wire, the arrays read from their files; slow where they are large.

        A binary product with a name is an object, one without is a text.

        Raises
        ------
        FixtureError
            A file is not as the format says, or the form `json` cannot carry an array.
        """
        from oda_proxy.codec import described  # numpy and astropy: not before an array is wanted

        units_of = functools.cache(self._units)

        def product(entry: Document) -> Any:
            if entry.boolean("wire", default=False):
                return self._as_sent(entry.text("file"))
            return described.wire_product(entry, units_of, form=form)

        products = dict(self.answer().products)
        with self._blaming(ANSWER_FILE):
            if _ONE_PRODUCT in products:
                products[_ONE_PRODUCT] = product(Document.of(products[_ONE_PRODUCT]))
            for key, read in ((_PRODUCTS, product), (_BINARIES, self._binary)):
                if key in products:
                    products[key] = [read(entry) for entry in Document(dict(products)).documents(key)]
        return products

    def verbatim(self) -> list[Any]:
        """Give every JSON value that goes on the wire as it stands in a file: what is no array; raises FixtureError."""
        products = self.answer().products
        with self._blaming(ANSWER_FILE):
            wired = [entry for entry in _entries_with_files(products) if entry.boolean("wire", default=False)]
        return [dict(products), *(self._as_sent(entry.text("file")) for entry in wired)]

    def _units(self, name: str) -> tuple[DataUnit, ...]:
        from oda_proxy.codec import fits

        with self._blaming(name):
            return fits.read(self.read_file(name))

    def _as_sent(self, name: str) -> Any:
        with self._blaming(name):
            return json_text.loads(self.read_file(name))

    def _binary(self, entry: Document) -> Any:
        from oda_proxy.codec import wire

        if entry.boolean("wire", default=False):
            return self._as_sent(entry.text("file"))
        name = entry.text_or_none("name")
        content = self.read_file(entry.text("file"))
        return wire.encode_binary(content, name=name, form="text" if name is None else "object")

    def _document(self, name: str) -> Document:
        return _document(self.read_file(name), self._limits)

    def _blaming(self, name: str) -> AbstractContextManager[None]:
        return _blaming(self.file(name))


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
        content = listed.read_member(self.path, path, self.instrument_files[path], limit=self._limits.member_bytes)
        with _blaming(file):
            instrument = _read_instrument(_document(content, self._limits))
            if instrument.name != name:
                raise CodecError(f"describes the instrument {instrument.name!r}, not {name!r}")
            return instrument


def open_folder(folder: Path, *, limits: Limits = Limits()) -> FixtureFolder:
    """Read and check the manifest of a folder of fixtures, and nothing else.

    Raises
    ------
    FixtureError
        The manifest is missing, larger than the limits allow, no strict JSON, of another format version, lists more
        files than the limits allow, or names a path that is not one of the format.
    """
    content = listed.read(folder, MANIFEST, limit=limits.json_bytes)
    with _blaming(folder / MANIFEST):
        return _read_manifest(folder, _document(content, limits), limits)


def write_fixture(folder: Path, path: str, query: FixtureQuery, answer: FixtureAnswer) -> None:
    """Write the files of a fixture, all or none; one that is there already is replaced.

    The manifest does not know them before `write_manifest`.

    Parameters
    ----------
    folder
        Root of the folder of fixtures; made where it is missing.
    path
        `<instrument>/<product>/<slug>`.
    answer
        Its `products` are as on the wire, where a numpy product may also be a `DataProduct`. Arrays and binary products
        become files; everything else is kept as it is.

    Raises
    ------
    FixtureError
        The path, the query or the answer is not as the format allows, FITS has no form for an array, or the disk fails.
    """
    with _blaming(folder / path):
        _check_path(path, parts=_FIXTURE_DEPTH)
        _check_query(query)
        products, files = _files_and_products(answer.products)
        _check_answer(answer := replace(answer, products=products))
        files |= {QUERY_FILE: _query_text(query).encode(), ANSWER_FILE: _answer_text(answer).encode()}
    _replace_folder(folder / path, files)


def verify(folder: Path, *, limits: Limits = Limits()) -> list[FixtureError]:
    """Check everything in a folder of fixtures; no error means that all of it can be read and served.

    Reads each file, and encodes each array. Of what the manifest does not list, only what lies in the folders of its
    instruments is an error: a README or a notebook may lie beside them.
    """
    try:
        opened = open_folder(folder, limits=limits)
    except FixtureError as error:
        return [error]
    checks: list[Callable[[], object]] = []
    for fixture in opened.fixtures:
        checks += [functools.partial(fixture.read_file, name) for name in fixture.members]
        checks += [fixture.query, fixture.wire_products]
    checks += [functools.partial(opened.instrument, file.split("/")[0]) for file in opened.instrument_files]
    found: dict[str, FixtureError] = {}
    for check in checks:
        try:
            check()
        except FixtureError as error:
            found.setdefault(str(error), error)
    named = {f"{fixture.path}/{name}" for fixture in opened.fixtures for name in fixture.members}
    named |= opened.instrument_files.keys()
    strangers = [FixtureError(folder / path, "is not in the manifest") for path in _strangers(folder, named)]
    return [*found.values(), *strangers]


def write_manifest(
    folder: Path, origins: Mapping[str, Mapping[str, Any]], *, measured: dict[str, Member] | None = None
) -> None:
    """Write manifest.json for the fixtures and descriptions of instruments that lie in a folder.

    Parameters
    ----------
    folder
        Root of the folder of fixtures.
    origins
        The origin of each fixture (by its path, `isgri/isgri_image/gx349`) and of each description
        (`isgri/instrument.json`), relative and with slashes: `{"kind": ..., "source": ..., "modelled": [...]}`.
    measured
        Files, by their paths, that did not change since they were measured; those measured now are added.

    Raises
    ------
    FixtureError
        A listed path is not there, holds something that is no file, or has a name that the format does not allow.
    """
    measured = {} if measured is None else measured
    fixtures = []
    instruments = []

    def measure(path: str) -> dict[str, Any]:
        if path not in measured:
            measured[path] = _measure(folder, path)
        return asdict(measured[path])

    for path in sorted(origins):
        if path.endswith(f"/{INSTRUMENT_FILE}"):
            instruments.append({"path": path, "origin": origins[path], **measure(path)})
            continue
        try:
            names = sorted(file.name for file in (folder / path).iterdir())
        except OSError as error:
            raise FixtureError(folder / path, f"cannot be listed: {error.strerror}") from None
        files = {name: measure(f"{path}/{name}") for name in names}
        fixtures.append({"path": path, "origin": origins[path], "files": files})
    document = {"format": FORMAT, "fixtures": fixtures, "instruments": instruments}
    with _blaming(folder / MANIFEST):
        content = json_text.dumps(document).encode()
    _replace(folder / MANIFEST, content)


# -- what the files say ---------------------------------------------------------------------------


def _document(content: bytes, limits: Limits) -> Document:
    if len(content) > limits.json_bytes:
        raise CodecError(f"is larger than {limits.json_bytes} bytes")
    document = Document.of(json_text.loads(content))
    version = document.count("format")
    if version != FORMAT:
        raise CodecError(f"is of format {version}; this release reads format {FORMAT}")
    return document


def _read_manifest(folder: Path, document: Document, limits: Limits) -> FixtureFolder:
    origins: dict[str, Mapping[str, Any]] = {}
    fixtures = []
    for entry in document.documents("fixtures"):
        path = _check_path(entry.text("path"), parts=_FIXTURE_DEPTH)
        files = entry.mapping("files")
        members = {_check_path(name, parts=1): _member(Document.of(member)) for name, member in files.items()}
        if not {QUERY_FILE, ANSWER_FILE} <= members.keys():
            raise CodecError(f"lists no {QUERY_FILE} or no {ANSWER_FILE} for {path}")
        origins[path] = _origin(entry)
        fixtures.append(Fixture(path, origins[path], MappingProxyType(members), folder, limits))
    instrument_files = {}
    for entry in document.documents("instruments"):
        path = _check_path(entry.text("path"), parts=2)
        if not path.endswith(f"/{INSTRUMENT_FILE}"):
            raise CodecError(f"lists {path} under instruments, where only {INSTRUMENT_FILE} files belong")
        origins[path] = _origin(entry)
        instrument_files[path] = _member(entry)
    for kind in ("fixtures", "instruments"):
        paths = [entry.text("path") for entry in document.documents(kind)]
        if paths != sorted(set(paths)):
            raise CodecError(f"the {kind} do not stand in the order of their paths, each once")
    if len(instrument_files) + sum(len(fixture.members) for fixture in fixtures) > limits.members:
        raise CodecError(f"lists more than {limits.members} files")
    return FixtureFolder(folder, tuple(fixtures), MappingProxyType(instrument_files), MappingProxyType(origins), limits)


def _origin(entry: Document) -> Mapping[str, Any]:
    origin = Document.of(entry.mapping("origin"))
    if origin.text("kind") not in ORIGIN_KINDS:
        raise CodecError(f"{entry.text('path')} has the unknown kind of origin {origin.text('kind')!r}")
    if not all(isinstance(item, str) for item in (origin.text("source"), *origin.items("modelled"))):
        raise CodecError(f"'modelled' of {entry.text('path')} should be a list of texts")
    return MappingProxyType(origin.members)


def _member(entry: Document) -> Member:
    if not SHA256.fullmatch(entry.text("sha256")):
        raise CodecError(f"{entry.text('sha256')[:80]!r} is no SHA-256")
    return Member(entry.count("size"), entry.text("sha256"))


def _check_path(path: str, *, parts: int) -> str:
    names = path.split("/")
    if len(names) != parts or not all(_NAME.fullmatch(name) for name in names):
        raise CodecError(f"{path[:200]!r} is not a path of {parts} names made of letters, digits, . _ - and +")
    return path


def _read_query(document: Document) -> FixtureQuery:
    query = FixtureQuery(
        instrument=document.text("instrument"),
        product_type=document.text("product_type"),
        query_type=document.text("query_type"),
        parameters=MappingProxyType(document.mapping("parameters")),
        api=document.boolean("api", default=True),
        dry_run=document.boolean("dry_run", default=False),
        files=MappingProxyType(document.mapping("files", default={})),
    )
    _check_query(query)
    return query


def _check_query(query: FixtureQuery) -> None:
    for name, value in query.parameters.items():
        if name in _NO_PARAMETERS:
            raise CodecError(f"parameters hold {name!r}, which is none: a fixture does not say who asked or how")
        if not _is_parameter_value(value):
            raise CodecError(f"the parameter {name!r} is neither text nor a number nor a list of these")
    for name, digest in query.files.items():
        if not SHA256.fullmatch(str(digest)):
            raise CodecError(f"files gives no SHA-256 for {name!r}")


def _is_parameter_value(value: Any) -> bool:
    members = value if isinstance(value, list) else [value]
    return all(isinstance(member, (str, int, float)) and not isinstance(member, bool) for member in members)


def _query_text(query: FixtureQuery) -> str:
    document = {
        "format": FORMAT,
        "instrument": query.instrument,
        "product_type": query.product_type,
        "query_type": query.query_type,
        "parameters": dict(query.parameters),
        "api": query.api,
        "dry_run": query.dry_run,
        "files": dict(query.files),
    }
    return json_text.dumps(document)


def _read_answer(document: Document) -> FixtureAnswer:
    answer = FixtureAnswer(
        query_status=document.text("query_status"),
        exit_status=MappingProxyType(document.mapping("exit_status")),
        timeline=tuple(_moment(entry) for entry in document.items("timeline")),
        products=MappingProxyType(document.mapping("products")),
        recorded=MappingProxyType(document.mapping("recorded")) if "recorded" in document.members else None,
    )
    _check_answer(answer)
    return answer


def _check_answer(answer: FixtureAnswer) -> None:
    if answer.query_status not in STATES:
        raise CodecError(f"query_status is {answer.query_status[:40]!r}, which no client knows")
    for name, value in answer.exit_status.items():
        if not isinstance(value, int if name == "status" else str) or isinstance(value, bool):
            raise CodecError(f"exit_status.{name} is {'no whole number' if name == 'status' else 'no text'}")
    if "status" not in answer.exit_status:
        raise CodecError("exit_status has no status")
    times = [seconds for _, seconds in answer.timeline]
    if times != sorted(times):
        raise CodecError("the timeline runs backwards")
    for entry in _entries_with_files(answer.products):
        _check_path(entry.text("file"), parts=1)


def _moment(entry: Any) -> tuple[str, float]:
    match entry:
        case [str() as state, int() | float() as seconds] if state in STATES and not isinstance(seconds, bool):
            if 0 <= seconds <= LONGEST_WAIT:
                return state, float(seconds)
    raise CodecError(f"the timeline holds {str(entry)[:60]!r}, not a state and seconds")


def _answer_text(answer: FixtureAnswer) -> str:
    document = {
        "format": FORMAT,
        "query_status": answer.query_status,
        "exit_status": dict(answer.exit_status),
        "timeline": [list(moment) for moment in answer.timeline],
        "products": dict(answer.products),
        **({} if answer.recorded is None else {"recorded": dict(answer.recorded)}),
    }
    return json_text.dumps(document)


def _entries_with_files(products: Mapping[str, Any]) -> Iterator[Document]:
    """Give the entries of answer.json's products that stand for files."""
    if _ONE_PRODUCT in products:
        yield Document.of(products[_ONE_PRODUCT])
    for key in (_PRODUCTS, _BINARIES):
        if key in products:
            yield from Document(dict(products)).documents(key)


def _read_instrument(document: Document) -> Instrument:
    prod_dict = document.mapping("prod_dict")
    queries = tuple(_query_description(entry) for entry in document.documents("queries"))
    described = {query.query_name for query in queries}
    for product, query_name in prod_dict.items():
        if not isinstance(query_name, str) or query_name not in described:
            raise CodecError(f"prod_dict gives {product!r} the query {str(query_name)[:60]!r}, which is not described")
    return Instrument(document.text("instrument"), MappingProxyType(prod_dict), queries)


def _query_description(entry: Document) -> QueryDescription:
    return QueryDescription(
        query_name=entry.text("query_name"),
        product_name=entry.text_or_none("product_name"),
        parameters=tuple(_parameter_description(item) for item in entry.documents("parameters")),
        synchronous=entry.boolean("synchronous", default=False),
    )


def _parameter_description(entry: Document) -> ParameterDescription:
    kind = entry.text_or_none("kind")
    if kind is not None and kind not in PARAMETER_KINDS:
        raise CodecError(f"the parameter {entry.text('name')!r} has the unknown kind {kind!r}")
    if "value" not in entry.members:
        raise CodecError(f"the parameter {entry.text('name')!r} has no value; write null where it has no default")
    return ParameterDescription(
        name=entry.text("name"),
        units=entry.text_or_none("units"),
        value=entry.members["value"],
        kind=kind,
        restrictions=MappingProxyType(entry.mapping("restrictions")) if "restrictions" in entry.members else None,
    )


def _files_and_products(products: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Turn the arrays and binary products of an answer into files, and what stands for them in answer.json."""
    kept, files = dict(products), _Files()
    if _ONE_PRODUCT in kept:
        kept[_ONE_PRODUCT] = files.of_product(kept[_ONE_PRODUCT])
    for key, convert in ((_PRODUCTS, files.of_product), (_BINARIES, files.of_binary)):
        if key in kept:
            kept[key] = [convert(wired) for wired in Document(kept).items(key)]
    return kept, files.contents


class _Files:
    """The files of an answer; what would come back otherwise than it was sent is kept as the JSON that it was."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}  # of each content: many spectra have the same response

    def of_product(self, wired: Any) -> dict[str, Any]:
        """Put the arrays of a product into a file, and give what stands for it; raises CodecError."""
        from oda_proxy.codec import described
        from oda_proxy.codec.product import DataProduct

        if isinstance(wired, DataProduct):
            description, content = described.describe(wired)
        elif (kept_apart := described.describe_wired(wired)) is not None:
            description, content = kept_apart
        else:
            return self._as_sent(wired, "product")
        return {**description, "file": self._shared(content, description["name"] or "product", ".fits")}

    def of_binary(self, wired: Any) -> dict[str, Any]:
        """Put a binary product into a file, and give what stands for it; raises CodecError."""
        from oda_proxy.codec import wire

        try:
            binary = wire.decode_binary(wired)
        except CodecError:
            if isinstance(wired, dict):
                return self._as_sent(wired, "binary")
            raise
        form: Literal["text", "object"] = "text" if binary.name is None else "object"
        if wire.encode_binary(binary.data, name=binary.name, form=form) != wired:
            return self._as_sent(wired, "binary")
        name = self._free(binary.name or "binary", "" if "." in (binary.name or "") else ".bin")
        self.contents[name] = binary.data
        return {"file": name} if binary.name is None else {"file": name, "name": binary.name}

    def _as_sent(self, wired: Any, kind: str) -> dict[str, Any]:
        name = wired.get("name") if isinstance(wired, dict) else None
        content = json_text.dumps(wired).encode()
        return {"file": self._shared(content, name if isinstance(name, str) else kind, ".json"), "wire": True}

    def _shared(self, content: bytes, name: str, suffix: str) -> str:
        if content not in self._names:
            self._names[content] = self._free(name, suffix)
            self.contents[self._names[content]] = content
        return self._names[content]

    def _free(self, name: str, suffix: str) -> str:
        return _free_name(name, suffix, self.contents.keys() | {QUERY_FILE, ANSWER_FILE})


def _free_name(name: str, suffix: str, taken: Container[str]) -> str:
    """Make a file's name of a product's, unlike those taken, with a number where need be."""
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).lstrip(".")[:100] or "unnamed"
    stem, dot, ending = (stem, "", suffix) if suffix else stem.rpartition(".")
    names = (f"{stem}{number}{dot}{ending}" for number in ("", *(f"-{count}" for count in range(2, _MOST_FILES))))
    for candidate in names:
        if candidate not in taken:
            return candidate
    raise CodecError(f"has more than {_MOST_FILES} files")


# -- the disk -------------------------------------------------------------------------------------


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Say which file it was."""
    try:
        yield
    except CodecError as error:
        raise FixtureError(file, str(error)) from None


def _measure(root: Path, relative: str) -> Member:
    if not all(_NAME.fullmatch(name) for name in relative.split("/")):
        raise FixtureError(
            root / relative, "the format allows letters, digits, . _ - and + in names, and no dot in front"
        )
    return listed.measure(root, relative)


def _replace(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=file.parent))
        try:
            _write(temporary / file.name, content)
            (temporary / file.name).replace(file)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise FixtureError(file, f"cannot be written: {error.strerror}") from None


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            (temporary / "new").mkdir()
            for name, content in files.items():
                _write(temporary / "new" / name, content)
            if folder.exists():
                folder.replace(temporary / "old")
            (temporary / "new").replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise FixtureError(folder, f"cannot be written: {error.strerror}") from None


def _write(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _strangers(folder: Path, listed: Collection[str]) -> Iterator[str]:
    """Give the files in the folders of the listed ones' instruments that are not listed."""
    for instrument in sorted({path.split("/")[0] for path in listed}):
        for file in sorted((folder / instrument).rglob("*")):
            path = file.relative_to(folder).as_posix()
            if path not in listed and not file.is_dir():
                yield path
