"""A command line is published without its secrets."""

from __future__ import annotations

import pytest

from oda_proxy.capsule.command_line import redacted, without_user

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJldmUifQ.c2lnbmVk"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["python", "fit.py", "-n", "3"], ["python", "fit.py", "-n", "3"]),
        (["fit.py", JWT], ["fit.py", "(removed)"]),
        (["fit.py", f"--auth={JWT}"], ["fit.py", "--auth=(removed)"]),
        (["fit.py", "--token", "abc", "x"], ["fit.py", "--token", "(removed)", "x"]),
        (["fit.py", "--token=abc"], ["fit.py", "--token=(removed)"]),
        (["papermill", "-p", "oda_token", "abc", "x"], ["papermill", "-p", "oda_token", "(removed)", "x"]),
        (["sh", "-c", "ODA_TOKEN=abc python x.py"], ["sh", "-c", "ODA_TOKEN=(removed) python x.py"]),
        (["curl", "http://h/x?token=abc&RA=83"], ["curl", "http://h/x"]),
        (["curl", "https://eve:pw@h/x"], ["curl", "https://h/x"]),
        (["x", '{"password": "abc"}'], ["x", '{"password": (removed)}']),
        (["x", "value-of-the-variable"], ["x", "(removed)"]),
        (["x", "--mail=eve@example.org"], ["x", "--mail=(removed)"]),
        (["tokens.py", "count"], ["tokens.py", "count"]),
        (["/home/eve/.venv/bin/python", "/Users/eve/x.py"], ["~/.venv/bin/python", "~/x.py"]),
        (["/srv/people/eve/x.py", "/srv/people/evelyn/x.py"], ["~/x.py", "/srv/people/evelyn/x.py"]),
        (["/root/x.py", "/rooted/x.py"], ["~/x.py", "/rooted/x.py"]),
        (["x", "\udcff"], ["x", "?"]),
        ([], []),
    ],
)
def test_a_command_is_shown_without_secrets_and_homes(command: list[str], shown: list[str]) -> None:
    environment = {"ODA_TOKEN": "value-of-the-variable", "MY_PASSWORD": "x", "PATH": "count"}

    assert redacted(command, environment, home="/srv/people/eve") == tuple(shown)


def test_a_home_that_is_the_root_is_none() -> None:
    assert redacted(["/bin/x"], {}, home="/") == ("/bin/x",)


@pytest.mark.parametrize(
    ("url", "shown"),
    [("https://u:p@h.example/a@b", "https://h.example/a@b"), ("https://h.example/", "https://h.example/"), ("x", "x")],
)
def test_an_address_is_shown_without_a_user(url: str, shown: str) -> None:
    assert without_user(url) == shown
