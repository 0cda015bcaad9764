"""The prefix of an upstream in paths."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from oda_proxy.web.front_end import FrontEnd
from oda_proxy.web.mounts import MountedAddresses, without_prefix


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/staging/run_analysis?a=/staging/x", "/run_analysis?a=/staging/x"),
        ("/staging", "/"),
        ("/staging/", "/"),
        ("/staging?a=1", "/?a=1"),
        ("//staging//run_analysis", "/run_analysis"),
        ("/%73taging/run_analysis", "/run_analysis"),
        ("/staging/%2e%2e/x", "/%2e%2e/x"),
        ("/staging/a%2Fb#c", "/a%2Fb#c"),
        ("/stagings/run_analysis", None),
        ("/staging%2Frun_analysis", None),
        ("/run_analysis?/staging", None),
        ("/", None),
        ("", None),
        ("*", None),
        ("http://host/staging/x", None),
    ],
)
def test_a_prefix_is_removed_from_the_paths_that_begin_with_its_segments(path: str, rest: str | None) -> None:
    assert without_prefix(path, "/staging") == rest


def test_a_prefix_may_have_several_segments() -> None:
    assert without_prefix("/a/b/c", "/a/b") == "/c"
    assert without_prefix("/a//%62/c", "/a/b") == "/c"
    assert without_prefix("/a/c", "/a/b") is None


def test_the_prefix_of_the_deployment_comes_before_that_of_the_upstream() -> None:
    addresses = MountedAddresses(FrontEnd("https://example.org/oda"), "/staging")
    request = make_mocked_request("GET", "/oda/staging/run_analysis?a=1")

    assert addresses.target(request) == "/run_analysis?a=1"
    assert addresses.target(make_mocked_request("GET", "/staging/-/jobs")) == "/-/jobs"  # the front end has removed it
    assert addresses.public_url(request) == "https://example.org/oda/staging"
