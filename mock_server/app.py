"""The aiohttp application of the mock dispatcher, assembled from its settings."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mock_server.analysis import Analysis
from mock_server.control import Control
from mock_server.dispatcher import MockDispatcher
from mock_server.dummy_back_end import DummyBackEnd
from mock_server.dummy_plugin import DummyPlugin
from mock_server.fixture_library import FixtureLibrary
from mock_server.job_folders import JobFolders
from mock_server.job_routes import JobRoutes
from mock_server.jobs import JobTable
from mock_server.new_jobs import NewJobs
from mock_server.pages import Pages
from mock_server.request_context import RequestReader
from mock_server.request_log import RequestLog
from mock_server.scenarios import FaultPlan, find_scenario, read_faults
from mock_server.service_routes import ServiceRoutes
from mock_server.token_routes import TokenRoutes
from mock_server.upload_folder import UPLOADS, UploadFolder
from mock_server.uploads import Uploads
from oda_proxy.fixture.description_folder import read_descriptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mock_server.settings import MockSettings

# Options for the AppRunner: old clients send catalogues and lists of any length in the request line.
RUNNER_OPTIONS: Final[Mapping[str, Any]] = {"max_line_size": 16 * 2**20, "max_field_size": 16 * 2**20}
BODY_LIMIT: Final = 64 * 2**20

DISPATCHER: Final = web.AppKey("dispatcher", MockDispatcher)
"""The dispatcher of an application, for those who run it."""


def make_app(
    settings: MockSettings,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> web.Application:
    """Return the application of a mock dispatcher.

    Parameters
    ----------
    settings
        What it serves, and how.
    clock
        Seconds, for the states of jobs.
    wall_clock
        Unix time, for the expiry of tokens and the time stamps of responses.
    sleep
        Waits for a number of seconds, in faults.

    Raises
    ------
    FixtureError
        A folder of fixtures or of descriptions does not follow the format.
    UsageError
        There is no such scenario, or a scenario file, a fault or a file of pages does not follow the format.
    """
    library = FixtureLibrary.open(
        settings.folders,
        settings.seed if settings.synthetic else None,
        dummy_plugin=DummyPlugin.open(settings.dummy_release) if settings.dummy_instruments else None,
        described=(
            *settings.described,
            *(one for folder in settings.description_folders for one in read_descriptions(folder)),
        ),
        generation=settings.generation,
    )
    scenario = find_scenario(settings.scenario, settings.scenario_files)
    sessions, chances = (random.Random(settings.seed) for _ in range(2))  # noqa: S311 - a mock has no secrets
    reader = RequestReader(settings, library, wall_clock, sessions)
    jobs = JobTable(clock)
    faults = FaultPlan((*scenario.faults, *read_faults(settings.faults)), chances)
    folders = None if settings.job_folders is None else JobFolders(settings.job_folders)
    back_end = DummyBackEnd(settings.job_folders)
    uploads = Uploads(None if settings.job_folders is None else UploadFolder(settings.job_folders / UPLOADS))
    new_jobs = NewJobs(library, scenario, faults, settings.time_scale * scenario.time_scale, jobs.clock)
    analysis = Analysis(settings, library, jobs, new_jobs, reader, back_end, folders, uploads)
    pages = Pages.read(settings.pages)
    requests: Counter[str] = Counter()
    query_statuses: Counter[str] = Counter()
    dispatcher = MockDispatcher(
        settings=settings,
        library=library,
        analysis=analysis,
        job_routes=JobRoutes(jobs, reader, folders),
        token_routes=TokenRoutes(reader),
        pages=pages,
        services=ServiceRoutes(reader, pages, has_dummy_plugin=settings.dummy_instruments),
        faults=faults,
        scenario=scenario,
        control=Control(
            library=library,
            jobs=jobs,
            faults=faults,
            log=RequestLog(),
            counts=(requests, query_statuses, analysis.served),
            session_ids=sessions,
            seed=settings.seed,
            first_faults=faults.faults,
        ),
        sleep=sleep,
        requests=requests,
        query_statuses=query_statuses,
    )
    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_route("*", "/{path:.*}", dispatcher.handle)
    app[DISPATCHER] = dispatcher
    return app
