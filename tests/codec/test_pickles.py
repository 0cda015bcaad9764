"""Pickles are read without running them, and written so that every client reads them."""

from __future__ import annotations

import base64
import builtins
import pickle  # noqa: TID251 - makes what servers, and worse ones, send
import pickletools
import struct
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.codec import pickle_allow_list, pickle_loading, pickle_operations, pickle_writing
from oda_proxy.errors import CodecError, ForbiddenPickleError
from tests.support.examples import examples
from tests.support.paths import SAMPLES
from tests.support.random_arrays import images, same_bits, tables

START = b"\x80\x04"


def text(value: str) -> bytes:
    """Return the operation that pushes a text."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    """Return the operations that load a name, as protocol 4 does."""
    return text(module) + text(name) + b"\x93"


RECONSTRUCT = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
DTYPE_F8 = (
    named("numpy", "dtype")
    + text("f8")
    + b"\x89\x88\x87R(K\x03"
    + text("<")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def array_pickle(shape: bytes, dtype: bytes = DTYPE_F8, raw: bytes = b"C\x00") -> bytes:
    """Return a pickle of an array with these properties."""
    return START + RECONSTRUCT + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb."


# -- what servers send ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@settings(max_examples=examples(25), deadline=None)
@given(array=st.one_of(images(), tables(variable=False)))
def test_arrays_of_every_protocol_are_read_bit_for_bit(protocol: int, array: Any) -> None:
    read = pickle_loading.loads(pickle.dumps(array, protocol))
    assert read.dtype == array.dtype
    assert same_bits(read, array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6)[::-2],
        np.zeros((0, 3)),
        np.array(["a", "bé"]),
        np.zeros(2, np.dtype([("a", "u1"), ("b", ">f8")], align=True)),
    ],
    ids=["fortran", "strided", "empty", "text", "aligned"],
)
def test_arrays_of_any_layout_are_read(protocol: int, array: Any) -> None:
    read = pickle_loading.loads(pickle.dumps(array, protocol))
    assert read.shape == array.shape
    assert np.array_equal(read, array)


def test_records_stay_records() -> None:
    records = np.zeros(2, np.dtype((np.record, [("TIME", ">f8")])))
    assert pickle_loading.loads(pickle.dumps(records, 2)).dtype.type is np.record


def test_a_pickle_of_python_2_has_bytes_for_text() -> None:
    raw = np.array([1.5, -2], "<f4").tobytes()
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02U\x01bq\x03\x87q\x04Rq\x05"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x06(U\x02V4q\x07K\x00K\x01tRq\x08(K\x03U\x01|N(U\x04RATEq\x09t}q\x0ah\x09"
        b"h\x06(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbK\x00\x86sK\x04K\x01K\x00tb"
        b"\x89U\x08" + raw + b"tb."
    )
    assert pickle.loads(data, encoding="bytes")["RATE"].tolist() == [1.5, -2]  # noqa: S301 - the text above
    read = pickle_loading.loads(data)
    assert read.dtype == np.dtype([("RATE", "<f4")])
    assert read["RATE"].tolist() == [1.5, -2]


@pytest.mark.parametrize("release", ["1.2.1", "1.2.42", "1.3.5"])
def test_tables_of_astropy_are_loaded_as_physical_values(release: str) -> None:
    table = pickle_loading.loads((SAMPLES / f"table-{release}.pkl").read_bytes())
    assert table.dtype.type is np.void
    assert table["NAME"].tolist() == ["GX 1+4", "x"]
    assert table["GOOD"].tolist() == [True, False]
    assert table["COUNTS"].tolist() == [40000, 65535]
    assert table["SCALED"].tolist() == [10.5, 11.0]
    assert table["RATE"].tobytes() == np.array([[0, 1, np.nan], [3, 4, np.inf]], ">f4").tobytes()


@pytest.mark.parametrize("release", ["1.2.42", "1.3.5"])
def test_columns_of_variable_length_are_read(release: str) -> None:
    table = pickle_loading.loads((SAMPLES / f"variable-{release}.pkl").read_bytes())
    assert [row.tolist() for row in table["MATRIX"]] == [[0, 1, 2], [0]]


def test_a_column_shorter_than_its_table_is_refused() -> None:
    with fits.open(SAMPLES / "table.fits") as hdus:
        table = hdus[1].data
        table._converted["GOOD"] = np.array([True])
        data = pickle.dumps(table)
    with pytest.raises(CodecError, match="different lengths"):
        pickle_loading.loads(data)


def test_a_column_that_lost_its_heap_is_named() -> None:
    with pytest.raises(CodecError, match="'MATRIX'"):
        pickle_loading.loads((SAMPLES / "variable-1.2.1.pkl").read_bytes())


def test_a_table_of_an_early_release_is_loaded_as_it_was_sent() -> None:
    table = pickle_loading.loads((SAMPLES / "table-1.0.pkl").read_bytes())
    assert table.dtype.type is np.record
    assert table["GOOD"].tolist() == [ord("T"), ord("F")]


# -- names ----------------------------------------------------------------------------------------


def test_names_are_listed_without_loading() -> None:
    data = pickle.dumps(np.zeros(2), 4)
    core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
    assert pickle_allow_list.names(data) == (f"{core}.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")


@pytest.mark.parametrize(
    "data",
    [
        START + text("os") + b"\x94" + text("system") + b"\x94" + b"0" + b"0" + b"h\x00h\x01\x93.",
        START + text("system") + text("os") + b"\x94" + b"0" + b"h\x00" + text("system") + b"\x93.",
        b"\x80\x04(" + text("numpy") + text("ndarray") + b"1" + text("os") + text("system") + b"\x93.",
        START + text("os") + b"2" + b"0" + text("system") + b"\x93.",
        b"\x80\x02cos\nsystem\n.",
    ],
    ids=["memo", "memo again", "dropped to the mark", "doubled", "protocol 2"],
)
def test_no_detour_hides_a_name(data: bytes) -> None:
    assert "os.system" in pickle_allow_list.names(data)
    with pytest.raises(ForbiddenPickleError, match=r"os\.system"):
        pickle_loading.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        START + text("os") + b"\x85" + text("system") + b"\x93.",
        START + named("builtins", "bytes") + b")R" + text("system") + b"\x93.",
        START + b"U\x02os" + text("system") + b"\x93.",
    ],
    ids=["a tuple", "a result", "bytes"],
)
def test_a_name_computed_while_loading_is_refused(data: bytes) -> None:
    assert pickle_allow_list.COMPUTED_NAME in pickle_allow_list.names(data)
    with pytest.raises(ForbiddenPickleError):
        pickle_allow_list.check(data)


@pytest.mark.parametrize(
    "data", [b"\x80\x02cnump\\x79\nndarray\n.", b"\x80\x02cnumpy ndarray\n\n.", b"\x80\x02c\xff\n\n."]
)
def test_the_lines_of_a_name_are_read_as_they_are_loaded(data: bytes) -> None:
    """Neither are escapes decoded, nor are two lines the same as one."""
    with pytest.raises(CodecError):
        pickle_allow_list.check(data)


def test_a_dotted_name_is_another_name() -> None:
    with pytest.raises(ForbiddenPickleError):
        pickle_allow_list.check(START + named("numpy", "core.multiarray._reconstruct") + b".")


# -- hostile pickles ------------------------------------------------------------------------------


class _Calls:
    """Pickled, it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["eval", "exec", "getattr", "__import__", "open"])
def test_functions_are_refused_by_name(protocol: int, name: str) -> None:
    with pytest.raises(ForbiddenPickleError, match=name):
        pickle_loading.loads(pickle.dumps(_Calls(getattr(builtins, name), "1"), protocol))


@pytest.mark.parametrize(
    "data",
    [
        START + named("builtins", "bytes") + b"J\xff\xff\xff\x7f\x85R.",
        START + named("_codecs", "encode") + text("x") + text("zip") + b"\x86R.",
        START + named("_codecs", "encode") + b"C\x01x" + text("latin1") + b"\x86R.",
        START + named("numpy", "ndarray") + b"J\xff\xff\xff\x7f\x85\x85R.",
        START + named("numpy", "dtype") + text("V2000000000") + b"\x85R.",
        START + named("numpy", "ndarray") + b"}" + text("shape") + b"K\x01sb.",
        START + named("_codecs", "encode") + b"N}" + text("__defaults__") + b")s\x86b.",
        START + named("numpy", "ndarray") + b"N.",
        START + b"N.",
        START + text("no array") + b".",
        START + RECONSTRUCT + b".",
        array_pickle(b"\x8a\x05\x00\x00\x00\x00\x10\x85"),
        array_pickle(b"J\xff\xff\xff\xff\x85"),
        array_pickle(b"K\x01\x85"),
        array_pickle(b"K\x01\x85", raw=b"C\x07seven!!"),
        array_pickle(b"K\x01\x85", raw=b"N"),
        array_pickle(b"N"),
        array_pickle(b"K\x01\x85", dtype=b"N"),
        array_pickle(b"K\x01\x85", dtype=text("f8"), raw=b"C\x08eight!!!"),
        array_pickle(b"K\x01\x85", dtype=DTYPE_F8.replace(b"f8", b"O8"), raw=b"]N" + b"a"),
        array_pickle(b"K\x01\x85", dtype=DTYPE_F8.replace(b"f8", b"M8"), raw=b"C\x08eight!!!"),
    ],
)
def test_allowed_names_cannot_be_misused(data: bytes) -> None:
    with pytest.raises(CodecError):
        pickle_loading.loads(data)


def test_a_field_outside_its_row_is_refused() -> None:
    good = pickle.dumps(np.zeros(2, [("a", "<f4"), ("b", "<f4")]), 4)
    assert good.count(b"K\x04") == 1
    with pytest.raises(CodecError):
        pickle_loading.loads(good.replace(b"K\x04", b"K\x40"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a pickle"),
        (b"\x80\x04N", "not a pickle"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "not a pickle"),
        (b"\x80\x04B\xff\xff\xff\x7fx.", "not a pickle"),
        (b"\x80\x04.", "not a pickle"),
        (b"\x80\x04NN\x93.", "computed while loading"),
        (b"\x80\x04(\x85.", "not a pickle"),
        (b"\x80\x04Nr\xff\xff\xff\x7f.", "larger than its size"),
        (b"\x80\x04h\x05.", "not a pickle"),
        (b"\x80\x04N.N.", "followed by other bytes"),
        (b"ios\nsystem\n.", "INST"),
        (b"\x80\x02K\x01Q.", "BINPERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"I1\n.", "INT"),
    ],
)
def test_what_is_no_pickle_of_an_array_is_refused_before_loading(data: bytes, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        pickle_loading.loads(data)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(CodecError):
        pickle_loading.loads(START + b"N" + b"\x85" * 200_000 + b".")


def test_a_list_within_itself_is_refused() -> None:
    with pytest.raises(CodecError):
        pickle_loading.loads(array_pickle(b"K\x01\x85", dtype=DTYPE_F8.replace(b"f8", b"O8"), raw=b"]\x94h\x00a"))


def test_an_array_within_itself_is_refused() -> None:
    within = START + RECONSTRUCT + b"\x94(K\x01K\x01\x85" + DTYPE_F8.replace(b"f8", b"O8") + b"\x89]h\x00atb."
    with pytest.raises(CodecError):
        pickle_loading.loads(within)


def test_lists_of_lists_are_refused() -> None:
    """Ten such lists, each within the next a thousand times, would never end."""
    inner = array_pickle(b"K\x01\x85", raw=b"C\x08eight!!!")[2:-1]
    objects = DTYPE_F8.replace(b"f8", b"O8")
    for _ in range(2):
        inner = RECONSTRUCT + b"(K\x01K\x01\x85" + objects + b"\x89]" + inner + b"atb"
    with pytest.raises(CodecError, match="that FITS does not have"):
        pickle_loading.loads(START + inner + b".")


def test_fields_within_fields_are_refused() -> None:
    with pytest.raises(CodecError, match="FITS does not have"):
        pickle_loading.loads(pickle.dumps(np.zeros(2, [("inner", [("a", "<i4")])]), 4))


def test_the_number_of_operations_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_operations, "MAX_OPERATIONS", 10)
    with pytest.raises(CodecError, match="more than 10 operations"):
        pickle_allow_list.names(pickle.dumps(np.zeros(2), 4))


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_no_damage_makes_another_error(data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(sorted(SAMPLES.glob("*.pkl"))))
    damaged = bytearray(sample.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = pickle_loading.loads(bytes(damaged))
    except CodecError:
        return
    assert isinstance(read, np.ndarray)
    assert read.nbytes <= 64 * len(damaged)


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        pickle_loading.loads(START + data)


# -- writing --------------------------------------------------------------------------------------


@settings(max_examples=examples(50), deadline=None)
@given(array=st.one_of(images(), tables(variable=False)))
def test_what_is_written_is_read_bit_for_bit_by_pickle_itself(array: Any) -> None:
    data = pickle_writing.dumps(array)
    assert same_bits(pickle.loads(data, encoding="bytes"), array)  # noqa: S301 - written above
    assert same_bits(pickle_loading.loads(data), array)


def test_written_pickles_use_the_names_of_the_oldest_numpy() -> None:
    data = pickle_writing.dumps(np.zeros(3, [("TIME", ">f8")]))
    assert pickle_allow_list.names(data) == ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")
    assert max(operation.proto for operation, _, _ in pickletools.genops(data)) <= 3


def test_record_arrays_are_written_only_on_request() -> None:
    records = np.zeros(3, np.dtype((np.record, [("TIME", ">f8")])))
    assert "numpy.record" not in pickle_allow_list.names(pickle_writing.dumps(records))
    assert "numpy.record" in pickle_allow_list.names(pickle_writing.dumps(records, record=True))


def test_subclasses_are_written_as_plain_arrays() -> None:
    table = np.rec.array(np.zeros(2, [("a", "f4")]))
    assert pickle_allow_list.names(pickle_writing.dumps(table))[1] == "numpy.ndarray"


def test_python_objects_are_not_written() -> None:
    with pytest.raises(CodecError):
        pickle_writing.dumps(np.array([object()]))


def test_protocol_3_is_smaller_than_protocol_2() -> None:
    array = np.frombuffer(bytes(range(256)) * 64, ">f4")
    assert len(base64.b64encode(pickle_writing.dumps(array))) * 1.4 < len(base64.b64encode(pickle.dumps(array, 2)))


def test_renaming_touches_names_only() -> None:
    data = pickle.dumps({"numpy._core.multiarray": _Calls(np.dtype, "f4")}, 2)
    renamed = pickle_operations.with_renamed_modules(data, {"numpy": "another"})
    assert pickle_allow_list.names(renamed) == ("another.dtype",)
    assert b"numpy._core.multiarray" in renamed


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_renamed_pickle_loads_the_same_array_under_every_protocol(protocol: int) -> None:
    table = np.zeros(3, [("a", ">f4"), ("b", "U3")])
    array = np.array([table, table[::2]], dtype=object)
    data = pickle.dumps([array, "numpy._core.multiarray", array], protocol)

    renamed = pickle_operations.with_renamed_modules(data, {"numpy._core.multiarray": "numpy.core.multiarray"})

    assert "numpy.core.multiarray._reconstruct" in pickle_allow_list.names(renamed)
    assert not any("numpy._core.multiarray" in name for name in pickle_allow_list.names(renamed))
    one, text, other = pickle.loads(renamed)  # noqa: S301 - of our own making
    assert text == "numpy._core.multiarray"
    assert one is other
    assert [(piece.dtype, piece.tobytes()) for piece in one] == [(piece.dtype, piece.tobytes()) for piece in array]


def test_a_pickle_without_the_name_is_not_changed() -> None:
    data = pickle.dumps(np.zeros(2), 3)
    assert pickle_operations.with_renamed_modules(data, {"another": "numpy"}) == data


LONG = 70_000
"""Characters from which on a text in a pickle is the content of an array."""


@pytest.mark.parametrize("tail", [b"\xc3\xbf", "\u20ac".encode(), b"~"], ids=["latin-1", "wider", "ASCII"])
def test_a_long_text_of_protocol_2_is_no_name(tail: bytes) -> None:
    text = b"\xc2\x80" * LONG + tail
    data = b"\x80\x02X" + struct.pack("<I", len(text)) + text + b"."
    assert pickle_allow_list.names(data) == ()


@pytest.mark.parametrize("wrong", [b"\x80", b"\xc3", b"\xc2\xc2\x80", b"\xff", b"\xc0\x80", b"\x80\xc2"])
def test_a_long_text_that_is_not_utf_8_is_refused_wherever_it_is_wrong(wrong: bytes) -> None:
    for before, after in ((b"", b"a" * LONG), (b"a" * LONG, b""), (b"a" * (4 * 65536 - 1), b"a" * LONG)):
        text = before + wrong + after
        with pytest.raises(CodecError):
            pickle_allow_list.names(b"\x80\x02X" + struct.pack("<I", len(text)) + text + b".")


def test_a_name_that_is_a_long_text_is_not_on_the_allow_list() -> None:
    name = b"X" + struct.pack("<I", LONG) + b"a" * LONG
    with pytest.raises(ForbiddenPickleError):
        pickle_allow_list.check(b"\x80\x04" + name + name + b"\x93.")
