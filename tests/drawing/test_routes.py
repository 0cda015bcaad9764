"""Pictures and files of recordings over HTTP."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits

from oda_proxy.fixture.reading import open_folder
from tests.support import drawn
from tests.support.access_servers import access_server, bearer, person

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.access_servers import AccessServer


async def read(server: AccessServer, path: str, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
    async with server.client.get(f"{server.url}/-/recordings/{path}", headers=headers) as response:
        return response.status, await response.read(), response.headers


@pytest.mark.slow
async def test_each_product_is_a_picture_and_a_file(tmp_path: Path) -> None:
    async with access_server(tmp_path, readers="anyone") as server:
        key = server.public
        _, listed, _ = await read(server, f"{key}/products")
        status, picture, headers = await read(server, f"{key[:12]}/products/0.png")
        again, _, _ = await read(server, f"{key}/products/0.png", **{"If-None-Match": headers["ETag"]})
        _, file, file_headers = await read(server, f"{key}/products/0.fits")
        _, catalog, _ = await read(server, f"{key}/products/1.fits")
        _, archive, _ = await read(server, f"{key}/products.zip")
        _, fixture, _ = await read(server, f"{key}/fixture.zip")
        _, header, _ = await read(server, f"{key}/header/0.4")
        missing = [await read(server, f"{key}/{path}") for path in ("products/9.png", "products/9.fits", "header/0.9")]
        async with server.client.head(f"{server.url}/-/recordings/{key}/products.zip") as response:
            assert response.status == 200
            assert int(response.headers["Content-Length"]) == len(archive)

    assert [(one["kind"], one["name"]) for one in json.loads(listed)["products"]] == [
        ("image", "mosaic_image"),
        ("catalogue", "catalogue"),
    ]
    assert (status, again) == (200, 304)
    assert picture.startswith(b"\x89PNG")
    assert headers["Content-Security-Policy"].endswith("sandbox")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert file_headers["Content-Disposition"] == f'attachment; filename="isgri_image-{key[:12]}-0.fits"'
    expected = drawn.fixture_maps(drawn.MOSAIC)
    for content in (file, zipfile.ZipFile(io.BytesIO(archive)).read("000-mosaic_image.fits")):
        with fits.open(io.BytesIO(content)) as opened:
            opened.verify("exception")
            maps = [hdu.data for hdu in opened[1:] if hdu.is_image]
            assert len(maps) == 4
            assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(maps, expected, strict=True))
    with fits.open(io.BytesIO(catalog)) as opened:
        opened.verify("exception")
        assert opened[1].data["src_names"].tolist() == ["OAO 1657-415", "4U 1700-377", "GX 349+2", "GX 354-0"]
        assert opened[1].columns["ra"].unit == "deg"
    names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
    assert {name.partition("-")[2] for name in names} >= {"catalogue.json", "catalogue.fits"}
    (table,) = (name for name in names if name.endswith("catalogue.fits"))
    with fits.open(io.BytesIO(zipfile.ZipFile(io.BytesIO(archive)).read(table))) as opened:
        assert "src_names" in opened[1].columns.names
    zipfile.ZipFile(io.BytesIO(fixture)).extractall(tmp_path / "fixtures")
    (exported,) = open_folder(tmp_path / "fixtures").fixtures
    assert exported.query().parameters["RA"] == 255.986542
    assert exported.wire_products().keys() >= drawn.fixture_products(drawn.MOSAIC).keys()
    assert b"CTYPE1  = 'RA---TAN'" in header
    for code, text, _ in missing:
        assert (code, json.loads(text)["status"]) == (404, 404)


def test_a_server_does_not_import_what_draws() -> None:
    program = "import oda_proxy.drawing.routes, oda_proxy.drawing.product_files, sys; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not {"numpy", "astropy", "matplotlib", "PIL"} & set(loaded), "only the drawing process does"


async def test_a_private_recording_is_drawn_for_those_alone_who_may_see_it(tmp_path: Path) -> None:
    async with access_server(tmp_path, readers="anyone") as server:
        for path in ("products", "products/0.png", "products/0.fits", "products.zip", "fixture.zip", "program.py"):
            assert (await read(server, f"{server.private}/{path}"))[0] == 404
            assert (await read(server, f"{server.private}/{path}", **bearer(person("b"))))[0] == 404
        status, program, _ = await read(server, f"{server.private}/program.py", **bearer(person("a")))
        assert status == 200
        assert b"token" not in program


@pytest.mark.slow
async def test_pictures_are_stored_and_removed_with_their_recording(tmp_path: Path) -> None:
    async with access_server(tmp_path, readers="anyone", cache_dir=str(tmp_path / "store")) as server:

        def stored() -> list[Path]:
            return [path for path in tmp_path.glob("store/*/pictures/*/*/*") if path.is_file()]

        await read(server, f"{server.public}/products/0.png")
        assert len(stored()) == 1
        assert stored()[0].stat().st_mode & 0o077 == 0
        server.store.remove(server.private)  # type: ignore[arg-type] # it has the same products
        assert len(stored()) == 1
        server.store.remove(server.public)  # type: ignore[arg-type]
        assert stored() == []
        assert (await read(server, f"{server.public}/products/0.png"))[0] == 404
