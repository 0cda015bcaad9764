"""`oda-proxy open`: products go to the programs of a SAMP hub, else to a FITS viewer."""

from __future__ import annotations

import shutil
import stat
import sys
import time
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from astropy.io import fits

from oda_proxy.capsule.conversion import recording_from_fixture
from oda_proxy.cli import main
from oda_proxy.commands import samp_hub
from oda_proxy.config.folders import cache_folder
from oda_proxy.fixture.reading import open_folder
from oda_proxy.store.disk import DiskStore
from tests.support import drawn
from tests.support.crowds import wait_until
from tests.support.paths import FIXTURES
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

URL = "https://dispatcher.example"
FILES = {drawn.MOSAIC: "image", drawn.JEMX_SPECTRUM: "spectrum", drawn.LIGHT_CURVES: "curve"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a folder of recordings, and the key of each kind of product."""
    folder, keys = tmp_path_factory.mktemp("cache"), dict[str, str]()
    store = DiskStore(cache_folder(folder, URL))
    for fixture in open_folder(FIXTURES).fixtures:
        if fixture.path in FILES:
            recording = recording_from_fixture(fixture, now=time.time())
            store.put(recording)
            keys[FILES[fixture.path]] = recording.key
    store.close()
    return folder, keys


@pytest.fixture(autouse=True)
def temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def run(store: tuple[Path, dict[str, str]]) -> Callable[..., int]:
    folder, keys = store
    options = ["--upstream", URL, "--cache-dir", str(folder)]
    return lambda kind, *more: main(["open", keys[kind], *more, *options])


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'none').as_uri()}")


class Receiver:
    """A program that takes messages of some MTypes, and keeps what it has loaded."""

    def __init__(self, samp: Any, hub: Any, name: str, *mtypes: str, error: str = "") -> None:
        self._hub = hub
        self.loaded: list[tuple[str, dict[str, Any], str]] = []
        self._error = error
        self.client = samp.SAMPIntegratedClient(metadata={"samp.name": name}, addr="127.0.0.1")
        self.client.connect()
        for mtype in mtypes:
            self.client.bind_receive_call(mtype, self.receive)

    def receive(self, _key: str, _sender: str, message_id: str, mtype: str, parameters: dict[str, Any], _: Any) -> None:
        with fits.open(unquote(urlsplit(parameters["url"]).path)) as opened:
            opened.verify("exception")
            self.loaded.append((mtype, parameters, opened[-1].name))
        # The hub drops a reply that comes before it has noted whom to wait for, a moment after it has sent the message.
        wait_until(lambda: message_id in self._hub._sync_msg_ids_heap)
        if self._error:
            self.client.ereply(message_id, "samp.error", error={"samp.errortxt": self._error})
        else:
            self.client.ereply(message_id, "samp.ok", result={})


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Run astropy's own hub, and connect receivers to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from astropy import samp
    lock = tmp_path / "samp"
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{lock.as_uri()}")
    samp.conf.use_internet = False
    with ExitStack() as stack:
        hub = samp.SAMPHubServer(web_profile=False, lockfile=str(lock), addr="127.0.0.1", mode="single")
        hub.start()
        stack.callback(hub.stop)

        def connect(name: str, *mtypes: str, **more: Any) -> Receiver:
            made = Receiver(samp, hub, name, *mtypes, **more)
            stack.callback(made.client.disconnect)
            return made

        yield connect


def test_an_image_goes_to_programs_that_load_images_and_its_catalogue_to_those_that_load_tables(
    receiver: Callable[..., Receiver], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    viewer, tables = receiver("DS9", "image.load.fits"), receiver("TOPCAT", "table.load.fits")

    assert run("image") == 0

    assert [(mtype, unit) for mtype, _, unit in viewer.loaded] == [("image.load.fits", "ISGR-MOSA-IMA")]
    assert [(mtype, unit) for mtype, _, unit in tables.loaded] == [("table.load.fits", "CATALOG")]
    assert viewer.loaded[0][1]["name"] == "mosaic_image"
    assert "DS9 has loaded 000-mosaic_image.fits" in capsys.readouterr().out


def test_a_spectrum_is_a_spectrum_for_programs_that_know_them_else_a_table(
    receiver: Callable[..., Receiver], run: Callable[..., int]
) -> None:
    topcat = receiver("topcat", "table.load.fits")
    assert run("spectrum") == 0
    splat = receiver("splat", "spectrum.load.ssa-generic", "table.load.fits")
    assert run("spectrum") == 0

    assert [mtype for mtype, _, _ in topcat.loaded] == ["table.load.fits"]
    with samp_hub.connected() as hub:
        assert hub is not None
        assert sorted(hub.programs().values()) == ["splat", "topcat"], "each command has left the hub"
    assert [mtype for mtype, _, _ in splat.loaded] == ["spectrum.load.ssa-generic"]
    assert splat.loaded[0][1]["meta"]["Access.Format"] == "application/fits"


def test_one_program_alone_gets_the_products_that_are_named(
    receiver: Callable[..., Receiver], run: Callable[..., int]
) -> None:
    one, other = receiver("Aladin", "table.load.fits"), receiver("TOPCAT", "table.load.fits")

    assert run("curve", "--to", "aladin", "--product", "3", "--product", "1") == 0

    assert (len(one.loaded), len(other.loaded)) == (2, 0)
    names = [parameters["name"] for _, parameters, _ in one.loaded]
    assert names == ["isgri_lc IGR J17507-2856", "isgri_lc IGR J17285-2922"]


@pytest.mark.slow
def test_products_of_a_running_proxy_are_fetched(
    receiver: Callable[..., Receiver], store: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, keys = store
    tables, viewer = receiver("TOPCAT", "table.load.fits"), receiver("DS9", "image.load.fits")
    serve = ("serve", "--upstream", URL, "--offline", "--port", "0", "--cache-dir", str(folder))
    with running(tmp_path / "proxy.log", *serve) as proxy:
        assert main(["--server", proxy.url, "open", keys["image"][:12]]) == 0
        assert main(["--server", proxy.url, "open", "0" * 64]) == 1

    assert [unit for _, _, unit in viewer.loaded] == ["ISGR-MOSA-IMA"]
    assert [unit for _, _, unit in tables.loaded] == ["CATALOG"]


def test_a_program_that_fails_is_named(
    receiver: Callable[..., Receiver], run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    receiver("DS9", "image.load.fits", error="no frame\nleft")

    assert run("image") == 1

    assert "DS9 has not loaded 000-mosaic_image.fits: no frame left" in capsys.readouterr().err


def test_a_hub_without_a_fitting_program_says_which_there_are(
    receiver: Callable[..., Receiver],
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver("player", "sound.play")
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert run("image") == 1
    assert "no program of the SAMP hub loads such files; there are player, and there is no program" in (
        capsys.readouterr().err
    )
    assert run("image", "--to", "ds9") == 1
    assert "no program 'ds9' is connected to the SAMP hub; there are player" in capsys.readouterr().err


@pytest.mark.usefixtures("no_hub")
def test_without_a_hub_a_viewer_opens_the_file(run: Callable[..., int], tmp_path: Path) -> None:
    viewer, opened = tmp_path / "viewer", tmp_path / "opened"
    viewer.write_text(f'#!/bin/sh\necho "$1" > {opened}.new; mv {opened}.new {opened}\n')
    viewer.chmod(viewer.stat().st_mode | stat.S_IXUSR)

    assert run("image", "--viewer", str(viewer)) == 0

    deadline = time.monotonic() + 30
    while not opened.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with fits.open(opened.read_text().strip()) as file:
        assert [hdu.shape for hdu in file if hdu.is_image] == [(), *[(455, 455)] * 4]


@pytest.mark.usefixtures("no_hub")
def test_without_hub_and_viewer_the_error_says_what_to_do(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert run("image") == 1
    program = "open" if sys.platform == "darwin" else "xdg-open"
    assert capsys.readouterr().err == (
        f"oda-proxy: no SAMP hub runs, and there is no program {program}: start DS9, TOPCAT or Aladin, "
        "or name one with --viewer\n"
    )
    assert run("image", "--to", "DS9") == 1
    assert "no SAMP hub runs: start DS9 first, or leave out --to" in capsys.readouterr().err


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--product", "9"], 1, "product 9 does not exist, or has no FITS file; those with one are 0, 1"),
        (["--product", "x"], 2, "must be a whole number from 0"),
        (["--product", "0", "--all"], 2, "--all and --product exclude each other"),
    ],
)
def test_products_that_do_not_exist_are_refused(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], options: list[str], status: int, message: str
) -> None:
    assert run("image", *options) == status
    assert message in capsys.readouterr().err


def test_a_hub_that_has_ended_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "samp"
    lock.write_text("samp.secret=x\nsamp.hub.xmlrpc.url=http://127.0.0.1:9/\nsamp.profile.version=1.3\n")
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{lock.as_uri()}")

    with samp_hub.connected() as hub:
        assert hub is None
