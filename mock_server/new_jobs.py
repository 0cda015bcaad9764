"""The jobs that queries start: their states and times, from a fixture, the scenario and the time scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mock_server.jobs import Job
from mock_server.scenarios import Polls

if TYPE_CHECKING:
    from collections.abc import Callable

    from mock_server.checked_request import CheckedRequest
    from mock_server.fixture_library import FixtureLibrary, ProductSource
    from mock_server.scenarios import FaultPlan, Scenario


@dataclass(frozen=True)
class NewJobs:
    """Makes jobs; `time_scale` multiplies the times of fixtures, that of the scenario included."""

    library: FixtureLibrary
    scenario: Scenario
    faults: FaultPlan
    time_scale: float
    clock: Callable[[], float]

    def job(self, checked: CheckedRequest, fixture: ProductSource) -> Job:
        """Return the job that a query starts if there is none."""
        context = checked.context
        recorded = self.library.answer(fixture)
        plugin = self.library.dummy_plugin
        comment = None if plugin is None else plugin.comment(checked.query, context.products_url)
        if comment is not None:
            recorded = replace(recorded, exit_status={**recorded.exit_status, "comment": comment})
        if self.scenario.outcome == "failed":
            recorded = replace(recorded, query_status="failed", exit_status={"status": 1})
        scale = self.time_scale
        is_synchronous = context.description.product_query(context.product).synchronous
        has_durations = any(seconds for _, seconds in recorded.timeline)
        # A job that waits for reports of its back end does so at every time scale.
        is_timed = not is_synchronous and (scale > 0 if has_durations else bool(recorded.timeline))
        return Job(
            job_id=checked.computed_job_id,
            session_id=context.session_id,
            token=context.token,
            echo=checked.parameters.echo,
            fixture=fixture,
            recorded=recorded,
            timeline=tuple((state, seconds * scale) for state, seconds in recorded.timeline) if is_timed else (),
            needed_polls=Polls() if is_synchronous else self._needed_polls(takes_time=is_timed),
            begun=self.clock(),
            time_request=context.time_request,
        )

    def _needed_polls(self, *, takes_time: bool) -> Polls:
        """Return the polls that the scenario needs: a slow job is one of several polls if jobs take no time."""
        needed = self.faults.polls_needed(takes_time=takes_time)
        is_slow = not takes_time and self.scenario.time_scale > 1
        return Polls(needed.submitted, max(needed.progress, math.ceil(self.scenario.time_scale) if is_slow else 0))
