"""Replay a capsule of 200 MB from a zip file and from a compressed tar file, and state how much memory that takes.

A client requests images from the mock, which `oda-proxy record` records; the client then runs again under
`oda-proxy replay`, and reads at its end the highest resident memory that its parent, the proxy, has had. That of a
capsule with one image is the start, which is subtracted. With `--python` the client is oda_api in that environment.

    python -m tests.soak.capsule_memory --python .envs/oda_api-1.3.5/bin/python
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import oda_proxy
from oda_proxy.files.archives import open_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES: Final = 60
"""Images of 3.4 MB each, which make 200 MB."""
LIMIT: Final = 64 * 10**6
"""Bytes that a replay may take over the start."""
_PROXY: Final = [sys.executable, "-m", "oda_proxy.cli"]
CLIENT: Final = """
import os, re, sys
url, count, peak, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
if kind == "oda_api":
    from oda_api.api import DispatcherAPI
    disp = DispatcherAPI(url=url)
    for number in range(count):
        disp.get_product(
            instrument="isgri", product="isgri_image", product_type="Real", osa_version="OSA10.2",
            T1="2003-03-15T23:27:40.0", T2="2003-03-16T00:03:15.0", E1_keV=20.0, E2_keV=40.0,
            RA=100.0 + number, DEC=-37.844167, detection_threshold=5.0, radius=15.0,
        )
else:
    from tests.support.image_query import get_image
    for number in range(count):
        assert get_image(url, RA=str(100.0 + number))["query_status"] == "done"
with open(f"/proc/{os.getppid()}/status") as status, open(peak, "w") as file:
    file.write(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
"""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the client with a number of images, in the folder of a measurement."""

    folder: Path
    url: str
    python: Path = Path(sys.executable)
    kind: str = "urllib"

    def record(self, count: int) -> Path:
        """Record images of the dispatcher at the URL, and return the zip file."""
        target = self.folder / f"{count}.zip"
        self._run([*_PROXY, "record", "-o", str(target), "--upstream", self.url, "--"], count)
        return target

    def peak(self, archive: Path, count: int) -> int:
        """Replay images from an archive, and return the highest resident memory of the proxy in bytes."""
        self._run([*_PROXY, "replay", str(archive), "--"], count)
        return int((self.folder / "peak").read_text()) * 1024

    def _run(self, command: Sequence[str], count: int) -> None:
        client = [str(self.python), "-c", CLIENT, self.url, str(count), str(self.folder / "peak"), self.kind]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)) if self.kind == "urllib" else ""}
        subprocess.run([*command, *client], env=env, cwd=self.folder, check=True, capture_output=True, text=True)


def packed_as_tar(archive: Path) -> Path:
    """Pack the files of a zip file as a compressed tar file beside it."""
    target = archive.with_suffix(".tar.gz")
    with open_tree(archive) as tree, tarfile.open(target, "w:gz", compresslevel=1) as written:
        for path in tree.files_below(""):
            content, size = tree.read_start(path, 2**30)
            member = tarfile.TarInfo(path)
            member.size = size
            written.addfile(member, io.BytesIO(content))
    return target


def main() -> int:
    """Measure; the exit status is 1 where the memory is not bounded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--python", type=Path, help="the Python of an environment with oda_api")
    arguments = parser.parse_args()
    is_bounded = True
    with tempfile.TemporaryDirectory() as name, oda_proxy.mocking() as url:
        python, kind = (
            (arguments.python.absolute(), "oda_api") if arguments.python else (Path(sys.executable), "urllib")
        )
        runner = Runner(Path(name), url, python, kind)
        start = runner.peak(runner.record(1), 1)
        archive = runner.record(arguments.images)
        with open_tree(archive) as tree:
            size = tree.size
        for one in (archive, packed_as_tar(archive)):
            over = runner.peak(one, arguments.images) - start
            is_bounded = is_bounded and over <= LIMIT
            print(  # noqa: T201 - the result
                f"{one.suffixes[-1]}: {size / 1e6:.0f} MB of files in {one.stat().st_size / 1e6:.0f} MB, "
                f"{over / 1e6:.0f} MB over the start ({start / 1e6:.0f} MB)"
            )
    return 0 if is_bounded else 1


if __name__ == "__main__":
    sys.exit(main())
