"""The mock dispatcher as a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy.errors import UsageError
from oda_proxy.fixture.description_folder import write_descriptions
from oda_proxy.servers.instruments_like import instruments_like
from oda_proxy.servers.start_messages import print_line
from oda_proxy.web.server import listening
from oda_proxy.web.signals import stop_event

if TYPE_CHECKING:
    from aiohttp import web

    from oda_proxy.config.settings import MockOptions
    from oda_proxy.fixture.model import Instrument


async def mock(options: MockOptions) -> None:
    """Run the mock dispatcher until a signal stops it."""
    stop = stop_event()
    described = await _instruments_like(options)
    app = mock_app(
        described=described,
        descriptions=options.descriptions,
        public_instruments=options.public_instruments,
        fixtures=options.fixtures,
        time_scale=options.time_scale,
        synthetic=options.synthetic,
        dummy_instruments=options.dummy_instruments,
        dummy_release=options.dummy_release,
        pages=options.pages,
        job_folders=options.job_folders,
        scenario=options.scenario,
        scenario_files=options.scenarios,
        generation=options.generation,
        secret_key=options.secret_key,
    )
    async with listening(app, options.host, options.port) as url:
        print_line(f"listening on {url}")
        await stop.wait()


async def _instruments_like(options: MockOptions) -> tuple[Instrument, ...]:
    """Read the descriptions of `--like`, and write them for `--save-descriptions`; raises OdaProxyError."""
    if options.like is None:
        if options.save_descriptions is not None:
            raise UsageError("--save-descriptions needs --like, which says whose descriptions to write")
        return ()
    instruments = await instruments_like(options.like)
    if options.save_descriptions is not None:
        write_descriptions(options.save_descriptions, instruments)
        print_line(f"wrote the descriptions of {len(instruments)} instruments to {options.save_descriptions}")
    return instruments


def mock_app(**settings: Any) -> web.Application:
    """Return a mock dispatcher; the settings are those of `mock_server.settings.MockSettings`."""
    from mock_server.app import make_app
    from mock_server.settings import MockSettings

    return make_app(MockSettings(**settings))


def ineffective_faults(app: web.Application) -> list[str]:
    """Return the scenario and the faults of a mock dispatcher that had no effect so far, as text."""
    from mock_server.app import DISPATCHER

    return app[DISPATCHER].ineffective()


def shipped_description(instrument: str) -> dict[str, Any] | None:
    """Return the shipped description of an instrument, as JSON of instrument.json, or None if there is none."""
    from mock_server import settings

    public = Path(settings.__file__).parent / "public_instruments" / f"{instrument}.json"
    for file in (settings.fixtures_folder() / instrument / "instrument.json", public):
        if file.is_file():
            document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return document
    return None
