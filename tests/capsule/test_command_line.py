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
        (
            ["pytest", "-n", "4", "-k", "not slow", "-p22", "tests"],
            ["pytest", "-n", "4", "-k", "not slow", "-p22", "tests"],
        ),
        (
            ["papermill", "-p", "RA", "83.6", "a.ipynb", "b.ipynb"],
            ["papermill", "-p", "RA", "83.6", "a.ipynb", "b.ipynb"],
        ),
        (
            ["python", "fit.py", "--author", "Eve", "--keyword=x"],
            ["python", "fit.py", "--author", "Eve", "--keyword=x"],
        ),
        (["sh", "-c", "cd /work && python x.py --T1 2003-03-15T23:27:40.0"],) * 2,
    ],
)
def test_a_command_is_shown_without_secrets_and_homes(command: list[str], shown: list[str]) -> None:
    environment = {"ODA_TOKEN": "value-of-the-variable", "MY_PASSWORD": "x", "PATH": "count", "PWD": "/home/eve"}

    assert redacted(command, environment, home="/srv/people/eve") == tuple(shown)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["curl", "-H", "Authorization: Bearer X", "-u", "bob:pw"], ["curl", "-H", "(removed)", "-u", "(removed)"]),
        (["curl", "-HCookie: a=1", "-ubob:pw", "http://h/x"], ["curl", "(removed)", "-u(removed)", "http://h/x"]),
        (["curl", "--header=X-Api-Key: 1"], ["curl", "(removed)"]),
        (["curl", "-H", "PRIVATE-TOKEN: 1"], ["curl", "-H", "(removed)"]),
        (
            ["curl", "--user=bob:pw", "--proxy-user", "bob:pw"],
            ["curl", "--user=(removed)", "--proxy-user", "(removed)"],
        ),
        (["http", "-a", "bob:pw", "h/x"], ["http", "-a", "(removed)", "h/x"]),
        (
            ["wget", "--password=pw", "--http-password", "pw"],
            ["wget", "--password=(removed)", "--http-password", "(removed)"],
        ),
        (["mysql", "-ppassword", "-p", "pw"], ["mysql", "-p(removed)", "-p", "(removed)"]),
        (["sshpass", "-p", "pw", "ssh", "h"], ["sshpass", "-p", "(removed)", "ssh", "h"]),
        (["smbclient", "-U", "bob%pw"], ["smbclient", "-U", "(removed)"]),
        (["curl", "https://h/x?key=AIzaSyA-0123456789&a=1"], ["curl", "https://h/x"]),
        (["curl", "https://h/x?X-Amz-Signature=0"], ["curl", "https://h/x"]),
        (["x", "--data", "password=abc&name=x"], ["x", "--data", "password=(removed)&name=x"]),
        (["x", "ghp_0123456789abcdef0123456789abcdef0123"], ["x", "(removed)"]),
        (
            ["x", "--client-secret", "pw", "--apiKey", "pw"],
            ["x", "--client-secret", "(removed)", "--apiKey", "(removed)"],
        ),
        (["x", "AKIA0123456789ABCDEF"], ["x", "(removed)"]),
        (["x", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"], ["x", "(removed)"]),
        (["x", "SENT-AS-A-CREDENTIAL", "--x=SENT-AS-A-CREDENTIAL"], ["x", "(removed)", "(removed)"]),
        (["x", "pw9"], ["x", "(removed)"]),
        (["sh", "-c", "curl -u bob:pw http://h/x"], ["sh", "-c", "(removed)"]),
        (["sh", "-c", "curl -H 'Authorization: Bearer X' h"], ["sh", "-c", "(removed)"]),
        (["sh", "-c", "curl -s -H 'Cookie: a=1' h | wc"], ["sh", "-c", "(removed)"]),
        (["sh", "-c", "mysql -ppassword db"], ["sh", "-c", "(removed)"]),
        (["sh", "-c", "echo hunter2 | docker login --password-stdin"], ["(removed)"]),
        (["python", "-c", "log_in('eve', password)"], ["(removed)"]),
        (["python", "-c", "headers = {'Authorization': 'Bearer X'}"], ["python", "-c", "(removed)"]),
    ],
)
def test_arguments_with_credentials_are_removed_or_the_command_is(command: list[str], shown: list[str]) -> None:
    assert redacted(command, {}, credentials={"SENT-AS-A-CREDENTIAL", "pw9"}) == tuple(shown)


def test_a_home_that_is_the_root_is_none() -> None:
    assert redacted(["/bin/x"], {}, home="/") == ("/bin/x",)


@pytest.mark.parametrize(
    ("url", "shown"),
    [("https://u:p@h.example/a@b", "https://h.example/a@b"), ("https://h.example/", "https://h.example/"), ("x", "x")],
)
def test_an_address_is_shown_without_a_user(url: str, shown: str) -> None:
    assert without_user(url) == shown
