"""The commands on the recordings of a store, on fixtures and on capsules: output and exit status."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import oda_proxy
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.cli import main
from oda_proxy.codec.product import DataProduct
from oda_proxy.commands import formatting
from oda_proxy.commands.output import print_json_list
from oda_proxy.commands.recordings import Progress
from oda_proxy.config.folders import cache_folder
from oda_proxy.config.options import PRODUCTION
from oda_proxy.drawing.product_list import name_of
from oda_proxy.query.cache_key import Key, short_key
from oda_proxy.query.message_text import printable
from oda_proxy.store.base import FreeSpace
from oda_proxy.store.disk import DiskStore
from tests.support import capsules
from tests.support.image_query import get_image
from tests.support.paths import FIXTURES
from tests.support.recordings import into_memory, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty working folder, with the cache folder in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def fixtures(tmp_path: Path) -> Path:
    """Copy the smallest fixture, with a manifest."""
    from oda_proxy.fixture.writing import write_manifest

    path = "spi_acs/spi_acs_lc/2003-03-15"
    shutil.copytree(FIXTURES / path, tmp_path / "fixtures" / path)
    write_manifest(tmp_path / "fixtures", {path: {"kind": "synthetic", "source": "a test", "modelled": []}})
    return tmp_path / "fixtures"


def test_a_sound_folder_of_fixtures_is_verified(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(fixtures)]) == 0
    assert capsys.readouterr().out == f"{fixtures}: all fixtures are sound\n"

    assert main(["verify", str(fixtures), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(fixtures), "sound": True, "faults": []}


def test_a_changed_fixture_is_named_in_one_line(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = next(fixtures.rglob("*.fits"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")

    assert main(["verify", str(fixtures)]) == 1
    out = capsys.readouterr().out

    assert str(changed) in out
    assert main(["verify", str(fixtures), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"] == out.splitlines()


def test_fixtures_are_not_repaired(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(fixtures), "--fix"]) == 2
    assert "it does not repair a folder of fixtures" in capsys.readouterr().err


@pytest.fixture
def capsule(tmp_path: Path) -> Path:
    """Write a capsule with two recordings of a dispatcher."""
    capsules.write_capsule(tmp_path / "capsule")
    return tmp_path / "capsule"


def test_a_sound_capsule_is_verified(capsule: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(capsule)]) == 0
    assert capsys.readouterr().out == f"{capsule}: the capsule is sound\n"

    assert main(["verify", str(capsule), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(capsule), "sound": True, "faults": []}


def test_a_changed_capsule_is_named_in_one_line(capsule: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = next(capsule.rglob("answer.json"))
    size = changed.stat().st_size
    changed.write_bytes(changed.read_bytes() + b"x")

    assert main(["verify", str(capsule)]) == 1
    assert capsys.readouterr().out == f"{changed}: was changed: it has {size + 1} bytes, not {size}\n"


def test_the_recordings_of_a_capsule_are_imported(capsule: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dispatcher,) = open_capsule(capsule).dispatchers

    imported = run_json(capsys, "import", str(capsule), "--upstream", dispatcher.url)

    assert imported["failed"] == {}
    assert set(imported["kept"]) == {one.path for one in dispatcher.fixtures}
    listed = run_json(capsys, "ls", "--upstream", dispatcher.url)
    assert {entry["key"] for entry in listed} == set(imported["kept"].values())


@pytest.mark.parametrize("has_another_description", [False, True])
def test_an_imported_capsule_is_found_under_any_spelling_without_the_dispatcher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_another_description: bool
) -> None:
    """A description that the store has already stays the newest; that of the capsule is stored beside it."""
    with oda_proxy.mocking() as mock, oda_proxy.recording(tmp_path / "capsule", upstream=mock) as url:
        recorded = get_image(url, RA="255.986542")
    cache = cache_folder(tmp_path / "cache", mock)
    own = json.loads(next((tmp_path / "capsule").rglob("descriptions/isgri.json")).read_text())
    if has_another_description:
        other = {**own, "meta_data": [own["meta_data"][0].replace("INTEGRAL", "AN OTHER") + " "]}
        (cache / "descriptions").mkdir(parents=True)
        (cache / "descriptions" / "isgri.json").write_text(json.dumps(other))

    run(capsys, "import", str(tmp_path / "capsule"), "--upstream", mock, "--cache-dir", str(tmp_path / "cache"))
    with oda_proxy.serving(mock, offline=True, cache_dir=tmp_path / "cache") as url:
        found = get_image(url, RA="255.98654200")

    assert found["query_status"] == "done"
    assert found["products"]["numpy_data_product_list"] == recorded["products"]["numpy_data_product_list"]
    stored = json.loads((cache / "descriptions" / "isgri.json").read_text())["meta_data"]
    assert stored[-1:] == own["meta_data"]
    assert len(stored) == 1 + has_another_description


@pytest.mark.parametrize("has_description", [False, True])
def test_an_imported_fixture_is_found_under_other_spellings_where_the_store_has_a_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_description: bool
) -> None:
    with oda_proxy.mocking() as mock:
        with oda_proxy.serving(mock, cache_dir=tmp_path / "one") as url:
            get_image(url, RA="255.986542")
        run(capsys, "export", str(tmp_path / "fixtures"), "--upstream", mock, "--cache-dir", str(tmp_path / "one"))
        if has_description:
            with oda_proxy.serving(mock, cache_dir=tmp_path / "two") as url:
                get_image(url, RA="250")
    run(capsys, "import", str(tmp_path / "fixtures"), "--upstream", mock, "--cache-dir", str(tmp_path / "two"))

    with oda_proxy.serving(mock, offline=True, cache_dir=tmp_path / "two") as url:
        states = [get_image(url, RA=ra)["query_status"] for ra in ("255.986542", "255.98654200")]

    assert states == ["done", "done" if has_description else "failed"]


def test_a_capsule_of_another_dispatcher_is_not_imported(capsule: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dispatcher,) = open_capsule(capsule).dispatchers

    assert main(["import", str(capsule), "--upstream", "http://other.example"]) == 2
    assert capsys.readouterr().err == (
        f"oda-proxy: the capsule {capsule} is from {dispatcher.url}, not from http://other.example; "
        "choose one with --upstream, or name a former address of the dispatcher with --former-url\n"
    )


def test_a_folder_without_recordings_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert "is neither a capsule (it has no capsule.json) nor a folder of fixtures" in capsys.readouterr().err


# -- a store --------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0) -> str:
    """Run a command on the store of this test, and return its output."""
    assert main(arguments) == expect
    return capsys.readouterr().out


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0) -> Any:
    return json.loads(run(capsys, *arguments, "--json", expect=expect))


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Copy fixtures of an image, a light curve and a binary file."""
    from oda_proxy.fixture.writing import write_manifest

    paths = ["isgri/isgri_image/4u1700-377", "isgri/isgri_lc/4u1700-377", "polar/polar_lc/2016-12-18"]
    for path in paths:
        shutil.copytree(FIXTURES / path, tmp_path / "several" / path)
    origin = {"kind": "synthetic", "source": "a test", "modelled": []}
    write_manifest(tmp_path / "several", dict.fromkeys(paths, origin))
    return tmp_path / "several"


@pytest.fixture
def keys(several: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Import these fixtures into the store; return the key of each by its product."""
    imported = run_json(capsys, "import", str(several))
    assert imported["failed"] == {}
    return {path.split("/")[1]: key for path, key in imported["kept"].items()}


def folder() -> Path:
    return cache_folder(None, PRODUCTION)


def test_recordings_are_listed_with_their_query(keys: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    listed = run_json(capsys, "ls")
    lines = run(capsys, "ls").splitlines()

    assert {entry["key"] for entry in listed} == set(keys.values())
    (image,) = [entry for entry in listed if entry["key"] == keys["isgri_image"]]
    assert image["query"]["parameters"]["E1_keV"] == ["20.0"]
    assert (image["cost"], image["pinned"]) == (6.0, False)
    assert lines[0].split() == ["KEY", "SIZE", "TOOK", "USED", "INSTRUMENT", "PRODUCT", "PARAMETERS"]
    (line,) = [line for line in lines if short_key(keys["isgri_image"]) in line]
    assert "isgri_image" in line
    assert "E1_keV=20.0" in line


@pytest.mark.usefixtures("keys")
def test_recordings_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    statistics = run_json(capsys, "stats")

    assert statistics["recordings"] == 3
    assert statistics["instruments"]["isgri"]["recordings"] == 2
    assert 0 < statistics["occupied"] < statistics["size"]
    assert run(capsys, "stats").startswith("3 recordings of https://www.astro.unige.ch/mmoda/dispatch-data, 0 pinned")


def test_all_named_recordings_are_removed_or_none(keys: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    image, curve = keys["isgri_image"], keys["isgri_lc"]

    assert main(["rm", image, "nothing"]) == 1
    assert "no recording has a key that begins with 'nothing'" in capsys.readouterr().err
    assert len(run_json(capsys, "ls")) == 3

    assert run_json(capsys, "rm", image[:20], curve[:20].upper()) == {"removed": [image, curve]}
    assert [entry["key"] for entry in run_json(capsys, "ls")] == [keys["polar_lc"]]


def test_the_beginning_of_several_keys_is_ambiguous(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(DiskStore(folder())) as store:
        for key in ("ab" + "0" * 62, "ab" + "1" * 62):
            store.put(recording(Key(key)))

    assert main(["rm", "ab"]) == 1
    assert "2 keys begin with 'ab'" in capsys.readouterr().err
    assert main(["rm", ""]) == 1
    assert run_json(capsys, "rm", "ab0") == {"removed": ["ab" + "0" * 62]}


def test_a_recording_without_arrays_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(DiskStore(folder())) as store:
        store.put(recording(Key("a" * 64), b'"catalog":{"cat_frame":"fk5"}'))
        store.put(recording(Key("b" * 64), b"no JSON"))

    assert "catalog  1 entry" in run(capsys, "show", "a")
    assert main(["show", "b"]) == 1
    assert "not JSON" in capsys.readouterr().err
    assert main(["export", "out", "a"]) == 1
    assert "the query of the recording is not known" in capsys.readouterr().err


def test_a_pinned_recording_is_not_pruned(keys: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    image = keys["isgri_image"]
    assert run(capsys, "pin", image) == f"pinned {short_key(image)}\n"

    pruned = run_json(capsys, "prune", "--max-size", "1")
    assert set(pruned["removed"]) == set(keys.values()) - {image}
    assert pruned["occupied"] > 1

    run(capsys, "unpin", image)
    assert run_json(capsys, "prune", "--max-size", "1") == {
        "removed": [image],
        "leftovers": 0,
        "occupied": 0,
        "others": 0,
    }


def test_prune_says_why_it_does_not_reach_its_limit(
    keys: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "pin", keys["isgri_image"])

    assert main(["prune", "--max-size", "1"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"oda-proxy: still (.*) over the limit: 1 pinned recording with \1 stay; unpin some to evict them", line
    )

    run(capsys, "unpin", keys["isgri_image"])
    with monkeypatch.context() as patch:
        patch.setattr(DiskStore, "evict_all", lambda *_: [])
        main(["prune", "--max-size", "1"])
    assert "over the limit: 1 recording could not be removed" in capsys.readouterr().err
    main(["prune", "--max-size", "1"])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(DiskStore, "free_space", lambda _: FreeSpace(size=10**12, free=0))
    main(["prune", "--min-free", "1GB"])
    assert "still 1 GB over the limit: there is nothing left to evict" in capsys.readouterr().err


@pytest.mark.usefixtures("keys")
def test_pruning_within_the_limit_removes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "left: 3 recordings, with" in run(capsys, "prune")


def test_a_store_is_verified_and_fixed(keys: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify") == "3 sound recordings\n"
    assert run(capsys, "verify", str(folder())) == "3 sound recordings\n"
    head = max((folder() / "heads").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
    head.write_bytes(head.read_bytes()[:-1])

    found = run_json(capsys, "verify", expect=1)
    assert [fault["about"] for fault in found["faults"]] == [keys["isgri_image"]]
    assert "verify --fix" in run(capsys, "verify", expect=1)
    assert "2 sound recordings, 1 fault fixed" in run(capsys, "verify", "--fix")
    assert run_json(capsys, "verify")["sound"]


@pytest.mark.parametrize("command", [["ls"], ["stats"], ["rm", "a"], ["show", "a"], ["prune"], ["verify"]])
def test_a_missing_store_is_an_error_and_not_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([*command, "--cache-dir", str(tmp_path / "none")]) == 1

    assert "there are no recordings in" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_recordings_of_another_dispatcher_in_the_folder_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(DiskStore(cache_folder(tmp_path, "http://mock"))) as store:
        store.put(recording())

    assert main(["ls", "--cache-dir", str(tmp_path), "--upstream", "http://other"]) == 1

    assert "but beside it those of http://mock; use --upstream" in capsys.readouterr().err


def test_a_recording_is_shown(keys: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    shown_text = run(capsys, "show", keys["isgri_image"])

    for expected in ("E1_keV", "20.0", "mosaic_image", "455 x 455", "catalog", keys["isgri_image"]):
        assert expected in shown_text
    assert "\x1b" not in shown_text, "plots are for terminals"
    shown = run_json(capsys, "show", keys["isgri_lc"])
    assert shown["products"]["arrays"][0]["units"][0]["columns"][0] == "TIME"
    assert shown["query"]["instrument"] == "isgri"


@pytest.mark.parametrize("product", ["isgri_image", "isgri_lc", "polar_lc"])
def test_a_plot_is_printed_on_a_terminal(
    keys: dict[str, str], product: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    plot = [line for line in run(capsys, "show", keys[product]).splitlines() if "▀" in line]

    assert len(plot) == 12
    assert len({line.count("▀") for line in plot}) == 1
    assert len({pixel for line in plot for pixel in line.split("▀")}) > 2, "the plot is not empty"


def test_a_terminal_without_colours_gets_no_plot(
    keys: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert "▀" not in run(capsys, "show", keys["isgri_image"])


@pytest.mark.parametrize("product", ["isgri_image", "isgri_lc"])
def test_a_plot_is_written_as_png(keys: dict[str, str], product: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    assert main(["show", keys[product], "--png", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_says_what_to_install(
    keys: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("matplotlib", "matplotlib.figure", "oda_proxy.drawing.figure"):
        monkeypatch.setitem(sys.modules, module, None)

    assert main(["show", keys["isgri_image"], "--png", "plot.png"]) == 1
    assert "pip install 'oda-proxy[plots]'" in capsys.readouterr().err


def test_a_table_is_printed_while_its_rows_are_read() -> None:
    read = []

    def rows() -> Iterator[tuple[str, str]]:
        for row in (("a", "1"), ("bb", "22"), ("cccc", "3"), ("d", "4")):
            read.append(row)
            yield row

    lines = formatting.streamed_table(("X", "N"), rows(), right=frozenset({0}), at_once=2)

    assert [next(lines), len(read)] == [" X  N", 2]
    assert list(lines) == [" a  1", "bb  22", "cccc  3", "   d  4"]


@pytest.mark.parametrize("values", [[], [1], [{"a": ["b\nc"], "d": {}}, {}]])
def test_a_list_is_printed_as_json_while_it_is_read(values: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_json_list(iter(values))

    assert capsys.readouterr().out == json.dumps(values, indent=2) + "\n"


def test_progress_is_reported_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 6.0, 7.0, 11.0])
    progress = Progress(4, stopwatch=lambda: next(times))
    for _ in range(4):
        progress.count()

    assert capsys.readouterr().err.splitlines() == [
        "oda-proxy: 2 of 4 recordings checked",
        "oda-proxy: 4 of 4 recordings checked",
    ]


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[2J\n\u202eb\udcffé") == "a\\x1b[2J\\n\\u202eb\\udcffé"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (999.9, "1 kB"), (25_300_000, "25.3 MB"), (5e15, "5e+03 TB")]
)
def test_sizes_have_three_digits(count: float, text: str) -> None:
    assert formatting.size(count) == text


def test_exported_recordings_are_imported_unchanged(
    keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = run_json(capsys, "export", str(tmp_path / "out"))
    assert set(exported["written"]) == set(keys.values())
    assert main(["verify", str(tmp_path / "out")]) == 0
    capsys.readouterr()

    again = run_json(capsys, "import", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "again"))

    assert {key: path for path, key in again["kept"].items()} == exported["written"]
    with closing(DiskStore(folder())) as one, closing(DiskStore(cache_folder(tmp_path / "again", PRODUCTION))) as other:
        for key in one.keys():  # noqa: SIM118 - a store is no dictionary
            ours, theirs = into_memory(one.get(key)), into_memory(other.get(key))
            assert ours is not None
            assert theirs is not None
            assert (ours.head, ours.client_members, ours.query, ours.cost) == (
                theirs.head,
                theirs.client_members,
                theirs.query,
                theirs.cost,
            )


@pytest.mark.parametrize("options_at", [0, 1, 2, 3])
def test_options_may_stand_anywhere(
    keys: dict[str, str], options_at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "out"), keys["isgri_lc"], keys["polar_lc"]]
    words[options_at:options_at] = ["--upstream", PRODUCTION]

    exported = run_json(capsys, "export", *words)

    assert set(exported["written"]) == {keys["isgri_lc"], keys["polar_lc"]}


def test_what_is_private_is_exported_only_by_name(
    keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = keys["polar_lc"]
    with closing(DiskStore(folder())) as store:
        found = into_memory(store.get(Key(private)))
        assert found is not None
        store.put(replace(found, private=True))

    assert private not in run_json(capsys, "export", str(tmp_path / "all"))["written"]
    assert private in run_json(capsys, "export", str(tmp_path / "named"), private)["written"]
    assert "private" in run(capsys, "ls")


def test_an_export_adds_to_a_folder_of_fixtures(
    keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for product in ("isgri_lc", "polar_lc"):
        run(capsys, "export", str(tmp_path / "out"), keys[product][:16])

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [fixture["path"].split("/")[1] for fixture in manifest["fixtures"]] == ["isgri_lc", "polar_lc"]
    assert manifest["fixtures"][0]["origin"] == {"kind": "recorded", "source": PRODUCTION, "modelled": []}


def test_a_product_without_a_name_has_that_of_its_source() -> None:
    assert name_of(DataProduct("", {"src_name": "4U 1700-377"})) == "4U 1700-377"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_leaves_exported_fixtures_alone(
    keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "export", str(tmp_path / "out"), keys["polar_lc"])
    texts = [file for file in (tmp_path / "out").rglob("*") if file.suffix in {"", ".json"} and file.is_file()]
    assert [file.name for file in texts if not file.read_bytes().endswith(b"\n")] == []

    _commit_and_check_out_with_autocrlf(tmp_path / "out", tmp_path / "clone")
    assert main(["verify", str(tmp_path / "clone")]) == 0


def _commit_and_check_out_with_autocrlf(source: Path, target: Path) -> None:
    """Commit a folder, and check it out as git on Windows does."""
    git = ["git", "-c", "core.autocrlf=true", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "fixtures"]):
        subprocess.run([*git, *words], cwd=source, check=True)
    subprocess.run([*git, "clone", "-q", str(source), str(target)], check=True)


def test_whoever_may_read_an_export_may_read_its_gitattributes(
    keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "export", str(tmp_path / "out"), keys["polar_lc"])

    modes = [(tmp_path / "out" / name).stat().st_mode for name in (".gitattributes", "manifest.json")]
    assert modes[0] == modes[1]


def test_an_export_does_not_replace_a_gitattributes(
    keys: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitattributes").write_text("*.json -text\n")

    run(capsys, "export", str(tmp_path / "out"), keys["polar_lc"])

    assert (tmp_path / "out" / ".gitattributes").read_text() == "*.json -text\n"


def test_a_damaged_fixture_is_not_imported(several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = several / "polar" / "polar_lc" / "2016-12-18" / "lc.root"
    changed.write_bytes(changed.read_bytes() + b"x")

    imported = run_json(capsys, "import", str(several), expect=1)

    assert list(imported["failed"]) == ["polar/polar_lc/2016-12-18"]
    assert len(imported["kept"]) == 2


def test_a_harmful_pickle_is_not_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import base64

    from oda_proxy.fixture.model import FixtureAnswer, FixtureQuery
    from oda_proxy.fixture.writing import write_fixture, write_manifest

    harmful = base64.b64encode(b"cposix\nsystem\n(S'true'\ntR.").decode()
    path = "isgri/isgri_image/harmful"
    table = {"binary": harmful, "name": "x", "meta_data": None}
    answer = FixtureAnswer("done", {"status": 0}, (), {"astropy_table_product_binary_list": [table]})
    write_fixture(tmp_path / "bad", path, FixtureQuery("isgri", "isgri_image", "Real", {}), answer)
    write_manifest(tmp_path / "bad", {path: {"kind": "synthetic", "source": "a test", "modelled": []}})

    assert main(["import", str(tmp_path / "bad")]) == 1
    assert "harmful was not stored: a client that reads it would load" in capsys.readouterr().err


@pytest.mark.usefixtures("keys")
def test_a_closed_pipe_is_no_error_message() -> None:
    command = [sys.executable, "-m", "oda_proxy.cli", "ls", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
