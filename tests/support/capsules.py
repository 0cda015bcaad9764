"""A small capsule with everything that a capsule can hold; as a program, writes it into a folder."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oda_proxy.capsule.exchange import exchange_from_answer, request_digest
from oda_proxy.capsule.writer import CapsuleWriter, DispatcherWriter
from oda_proxy.codec import pickle_loading
from oda_proxy.compat.answer_repairs import repaired
from oda_proxy.errors import CodecError
from oda_proxy.query.cache_key import key_of
from oda_proxy.query.query import Envelope, Query, split_query
from oda_proxy.query.schema import read_schema
from oda_proxy.recordings import failures
from oda_proxy.recordings.recording import redact, redact_query, splice
from tests.support.dispatcher_responses import SESSION, answer, json_bytes
from tests.support.sample_descriptions import meta_data
from tests.support.unreadable_responses import captured, product, unit

if TYPE_CHECKING:
    from oda_proxy.capsule.exchange import Exchange
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording

URL = "https://dispatcher.example/mmoda/dispatch-data"
ENVELOPE = Envelope("new", SESSION, others={"oda_api_version": "1.3.5", "off_line": "False"})
DESCRIPTION = meta_data()
SCHEMA = read_schema(DESCRIPTION)
STORED_AT = 1_700_000_000.25
IMAGE = np.arange(12, dtype="<f4").reshape(3, 4)
TABLE = np.array([(0.5, 1.25, b"GX 1+4"), (1.5, np.nan, b"")], [("TIME", ">f8"), ("RATE", ">f4"), ("NAME", "S8")])
ADDRESS = f"http://h/run_analysis?session_id={SESSION}&RA=83.0&token=None"
CARDS = {"RA": 83.0, "NAXIS1": 7, "SESSION_ID": SESSION, "url": ADDRESS, "lower": "x  ", "LIST": None}
API_CODE = 'disp = DispatcherAPI(url="http://h/x")\npar_dict = {\n    "RA": 83.0,\n    "token": "secret"\n}\n'


def query(**words: str | list[str]) -> Query:
    """Return a query as a client sends it."""
    pairs = [("instrument", "isgri"), ("product_type", "isgri_image"), ("query_type", "Real"), ("api", "True")]
    for name, given in words.items():
        pairs += [(name, word) for word in ([given] if isinstance(given, str) else given)]
    return split_query(pairs)[0]


def recorded(asked: Query, *, envelope: Envelope = ENVELOPE, **products: Any) -> Recording:
    """Record an answer with these products, as the proxy does."""
    sent = answer(products=products)
    sent["products"] = {name: value for name, value in sent["products"].items() if value is not None}
    body = repaired(json_bytes(sent), 200, envelope)
    made = redact(body, envelope, key=key_of(asked, SCHEMA), stored_at=STORED_AT)
    timeline = (("submitted", 0.0), ("progress", 2.5), ("ready", 6.125))
    return replace(made, query=redact_query(asked, envelope), cost=6.25, timeline=timeline)


def with_arrays() -> Recording:
    """Record arrays that FITS can hold, with cards that contradict them and cards of the client."""
    lists = [
        product(unit(IMAGE, header=CARDS), name="mosaic_image"),
        product(unit(TABLE, header={"NAXIS1": 7, "EXTNAME": "RATE"}, units_dict={"RATE": "count/s"}), name="lc"),
    ]
    catalogue = {"cat_frame": "fk5", "cat_column_names": ["ra"], "cat_column_list": [[83.0]]}
    asked = query(
        RA="83.0", DEC="22.00", T1="2003-03-15T23:27:40.0", scw_list=["010200230010.001", "x"], src_name="Crab"
    )
    return recorded(asked, numpy_data_product_list=lists, catalog=catalogue, api_code=API_CODE)


def without_fits() -> Recording:
    """Record arrays that FITS cannot hold, and products that are not arrays."""
    lists = [product(unit(np.array([[True, False]])), name="mask"), product(unit(np.zeros(2, "f2")), name="half")]
    objects = [{"name": "lc.root", "data": "cm9vdA==", "md5": hashlib.md5(b"root", usedforsecurity=False).hexdigest()}]
    texts = [{"name": "log", "value": 'é\n"null"', "meta_data": {}}]
    asked = query(RA="83", dry_run="yes")
    return recorded(
        asked, numpy_data_product_list=lists, binary_data_product_list=[*objects, "cm9vdA=="], text_product_list=texts
    )


def failed(name: str, asked: Query, envelope: Envelope = ENVELOPE) -> Failure:
    """Return a failure of dispatcher 1.3.6."""
    return failures.redact(
        captured(f"{name}.json.gz"),
        envelope,
        status=int(name.rpartition(".")[2]),
        content_type="application/json",
        key=key_of(asked, SCHEMA),
        failed_at=STORED_AT,
        query=redact_query(asked, envelope),
    )


def exchange() -> Exchange:
    """Return an exchange with another server."""
    told = (("Content-Type", "application/json"), ("ETag", '"1"'))
    return exchange_from_answer("https://sites.example/list?name=Crab", (), 200, told, b'["Paranal"]\n', when=STORED_AT)


def other_exchanges() -> list[Exchange]:
    """Return a failure, a HEAD, and two answers to one POST."""
    url, form = "https://tap.example/tap/sync", (("Content-Type", "application/x-www-form-urlencoded"),)
    gone = exchange_from_answer("https://sites.example/gone", (), 404, (), b"gone", when=STORED_AT)
    length = (("Content-Length", "12"),)
    head = exchange_from_answer("https://sites.example/", (), 200, length, b"", when=STORED_AT, method="HEAD")
    digest = request_digest(form, b"QUERY=SELECT+1")
    posted = exchange_from_answer(
        url, form, 200, (), b"<VOTABLE/>", when=STORED_AT, method="POST", request_digest=digest
    )
    return [gone, head, posted, replace(posted, body=b"<VOTABLE><!-- 2 --></VOTABLE>", occurrence=2)]


def write_descriptions(folder: Path) -> None:
    """Write descriptions as the proxy does during a run."""
    (folder / "descriptions").mkdir(parents=True, exist_ok=True)
    asked = ["/api/instr-list"]
    told = {"format": 1, "asked": asked, "told_at": STORED_AT, "content_type": "application/json"}
    (folder / "descriptions" / f"api_instr-list-{digest(asked)[:12]}.json").write_text(
        json.dumps({**told, "body": '["isgri"]'}) + "\n"
    )
    described = {"format": 1, "instrument": "isgri", "meta_data": [DESCRIPTION]}
    (folder / "descriptions" / "isgri.json").write_text(json.dumps(described) + "\n")


def begun(folder: Path, **options: Any) -> tuple[CapsuleWriter, DispatcherWriter]:
    """Begin a capsule with a clock that advances by a second per call."""
    seconds = count()
    command = ["python", "analysis.py", "--token", "abcdefgh"]
    writer = CapsuleWriter(folder, command=command, clock=lambda: STORED_AT + next(seconds), **options)
    return writer, writer.dispatcher(URL)


def write_capsule(folder: Path, **options: Any) -> CapsuleWriter:
    """Write the whole capsule."""
    writer, dispatcher = begun(folder, **options)
    dispatcher.add_address("http://127.0.0.1:8000/dispatch-data")
    for recording in (with_arrays(), without_fits()):
        assert dispatcher.save_recording(recording)
        dispatcher.count_use(recording.key)
    for name, asked in (("bad_RA.400", query(RA="a")), ("analysis_fails.200", query(RA="1"))):
        assert dispatcher.save_failure(failed(name, asked))
        dispatcher.count_use(key_of(asked, SCHEMA))
    page = exchange()
    writer.save_exchange(page)
    writer.count_exchange_use(page.name)
    for other in other_exchanges():
        writer.save_exchange(other)
    writer.note_packages({"python": ["3.11.7"], "numpy": ["2.4.6"]})
    writer.note_version("oda_api", "1.3.5")
    write_descriptions(dispatcher.folder)
    writer.finish(0)
    return writer


def client_view(recording: Recording) -> Any:
    """Return the answer for a client, each array by its type, shape and digest."""
    client = Envelope("new", "ANOTHERSESSION00", "aaaaaaaabbbbbbbb", others={"oda_api_version": "1.2.0"})
    answer_told = _plain(json.loads(b"".join(splice(recording, client, now=0.0, address="http://here/x"))))
    answer_told["products"] = dict(sorted(answer_told["products"].items()))  # in which order they come is nobody's
    return answer_told


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        plain = {name: _plain(inner) for name, inner in value.items()}
        if isinstance(pickled := value.get("binarys"), str) and (array := _array(pickled)) is not None:
            plain["binarys"] = [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        return plain
    if isinstance(value, str) and value.startswith('{"'):
        return _plain(json.loads(value))
    return value


def _array(pickled: str) -> Any:
    """Read an array whose bytes are its values; None for others, which must be preserved as sent."""
    try:
        array = pickle_loading.loads(base64.b64decode(pickled))
    except CodecError:
        return None
    return None if array.dtype.hasobject else array


def digest(value: Any) -> str:
    """Return a digest of a JSON value; the order of members counts."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


if __name__ == "__main__":
    write_capsule(Path(sys.argv[1]))
