"""A mock that is like the dispatchers of a suite, with the public address in their configuration.

    python conformance_mock.py --port 0 [--products-url URL]

It has the dummy instruments and no others, writes the folders of jobs into the current folder, and redirects
`api/instr-list` as dispatcher 1.3.6 does.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import tempfile
from pathlib import Path

from mock_server.app import make_app
from mock_server.settings import MockSettings
from oda_proxy.fixture.writing import write_manifest
from oda_proxy.web.server import listening
from oda_proxy.web.signals import stop_event

SECRET_KEY = "secretkey_test"  # noqa: S105 - of the suites
HOST = "127.0.0.1"


async def serve(fixtures: Path, port: int, products_url: str | None) -> None:
    """Run the mock until a signal stops it."""
    stop = stop_event()
    listed = f"http://{HOST}:{port}/instr-list" if products_url is None else f"{products_url}dispatch-data/instr-list"
    settings = MockSettings(
        fixtures=(fixtures,),
        time_scale=0,
        secret_key=SECRET_KEY,
        products_url=products_url,
        redirect_instr_list=listed,
        dummy_instruments=True,
        job_folders=Path.cwd(),
    )
    async with listening(make_app(settings), HOST, port) as url:
        print(f"listening on {url}", flush=True)  # noqa: T201 - as the command does
        await stop.wait()


def main() -> None:
    """Choose a port if there is none, and serve on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--products-url", help="with a slash at its end")
    options = parser.parse_args()
    port = options.port
    if not port:
        with socket.socket() as probe:  # the address of the redirect has to be known before the mock listens
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as fixtures:
        write_manifest(Path(fixtures), {})
        asyncio.run(serve(Path(fixtures), port, options.products_url))


if __name__ == "__main__":
    main()
