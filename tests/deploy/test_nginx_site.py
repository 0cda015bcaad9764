"""The nginx site gives clients the public address, streams, and logs no query."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import ssl
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from oda_proxy.http.routes import UNSAFE_ROUTES
from tests.support.crowds import wait_until
from tests.support.front_end import SITE, free_port, front_end, nginx, prepare
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.front_end import FrontEnd
    from tests.support.servers import Server

pytestmark = [pytest.mark.real, pytest.mark.slow]

SECRET = "K7Q2ZP9X4M1TB6WD"  # noqa: S105 - a session, as long as a real one
QUERY = (
    "instrument=isgri&product_type=isgri_image&query_type=Real&api=True&query_status=new&osa_version=OSA10.2&"
    f"scw_list=010200230010.001&session_id={SECRET}"
)
LONG = 200_000
"""Characters of a request line that clients up to 1.1.0 may send."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a proxy that trusts its front end on this machine."""
    nginx()
    folder = tmp_path_factory.mktemp("proxy")
    with (
        running(folder / "mock.log", "mock", "--port", "0", "--time-scale", "0", "--synthetic") as mock,
        running(
            folder / "proxy.log",
            *("serve", "--upstream", mock.url, "--port", "0", "--cache-dir", str(folder / "cache")),
            *("--trusted-proxy", "127.0.0.1"),
        ) as proxy,
    ):
        yield proxy


@pytest.fixture(scope="module")
def site(proxy: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontEnd]:
    """Run nginx before the proxy."""
    with front_end(tmp_path_factory.mktemp("nginx") / "site", proxy.url) as site:
        yield site


def fetch(site: FrontEnd, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(f"{site.url}{path}", body, headers)  # noqa: S310 - on this machine
    context = ssl.create_default_context(cafile=site.authority)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as response:  # noqa: S310 - as above
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_nginx_accepts_the_site(tmp_path: Path) -> None:
    configuration = prepare(tmp_path, ["http://127.0.0.1:8400"], free_port(), free_port())
    command = [nginx(), "-t", "-e", str(tmp_path / "start.log"), "-p", str(tmp_path), "-c", str(configuration)]

    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (result.returncode, "warn" in result.stderr) == (0, False), result.stderr


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hit_names_the_public_address(site: FrontEnd, method: str) -> None:
    for session in ("A", "B"):
        query = f"{QUERY[:-1]}{session}"
        path, body = (f"/run_analysis?{query}", None) if method == "GET" else ("/run_analysis", query.encode())
        status, headers, text = fetch(site, path, body)

    assert (status, headers["Cache-Status"]) == (200, "oda-proxy; hit")
    assert f"'{site.url}'" in json.loads(text)["products"]["api_code"]


def test_a_client_of_an_old_release_may_send_a_long_request_line(site: FrontEnd) -> None:
    status, _, text = fetch(site, f"/run_analysis?{QUERY}&selected_catalog={'x' * LONG}")

    assert json.loads(text)["query_status"]
    assert status in {200, 400}  # the mock's own opinion of such a catalogue


def test_the_pages_of_the_proxy_are_below_the_prefix(site: FrontEnd) -> None:
    assert fetch(site, "/-/livez")[2] == b"ok\n"
    assert json.loads(fetch(site, "/-/status")[2])["version"]


def test_headers_of_clients_do_not_reach_the_proxy(site: FrontEnd) -> None:
    forged = {"Forwarded": "for=127.0.0.1;host=evil.example", "X-Forwarded-Host": "evil.example"}
    fetch(site, f"/run_analysis?{QUERY}")
    status, _, text = fetch(site, f"/run_analysis?{QUERY[:-1]}F", None, **forged, **{"X-Forwarded-For": "192.0.2.1"})

    assert status == 200
    assert f"'{site.url}'" in json.loads(text)["products"]["api_code"]


def test_a_request_has_the_same_id_in_both_logs(site: FrontEnd, proxy: Server) -> None:
    status, headers, _ = fetch(site, f"/run_analysis?{QUERY}", None, **{"X-Request-Id": "chosen-by-the-client"})
    request_id = headers["X-Request-Id"]

    assert status == 200
    assert len(request_id) == 32
    wait_until(lambda: request_id in site.access_log.read_text())
    wait_until(lambda: request_id in proxy.log.read_text())


def test_an_upload_is_passed_on(site: FrontEnd) -> None:
    boundary = "b" * 20
    fields = {**dict(urllib.parse.parse_qsl(QUERY)), "session_id": f"{SECRET[:-1]}U"}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    disposition = 'form-data; name="user_catalog_file"; filename="catalogue.txt"'
    file = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n{'#' * 3_000_000}\r\n"
    body = f"{''.join(parts)}{file}--{boundary}--\r\n".encode()
    status, _, text = fetch(
        site, "/run_analysis", body, **{"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )

    assert json.loads(text)["query_status"]
    assert status in {200, 400}


def test_nothing_is_written_that_a_client_sends_as_its_query(site: FrontEnd, proxy: Server) -> None:
    fetch(site, f"/run_analysis?{QUERY}&token=very-secret", None, Referer=f"{site.url}/?token=very-secret")
    url = urllib.parse.urlsplit(site.url)
    context = ssl.create_default_context(cafile=site.authority)
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=PATIENCE)
    connection.request("GET", f"/oda/{'x' * 400_000}?token=very-secret")  # too long for nginx itself
    assert connection.getresponse().status == 414
    connection.close()

    wait_until(lambda: " 414 " in site.access_log.read_text())
    logs = [path.read_text() for path in site.access_log.parent.glob("*.log")]
    assert '"/oda/run_analysis" ' in "".join(logs)
    assert [log for log in logs if "very-secret" in log or SECRET in log] == []
    assert "very-secret" not in proxy.log.read_text()


def test_a_client_that_uses_no_tls_is_sent_to_the_same_page_without_its_query(site: FrontEnd) -> None:
    configuration = (site.access_log.parent / "site.conf").read_text()
    port = int(configuration.split("listen 127.0.0.1:")[1].split(";")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/oda/run_analysis?token=very-secret", headers={"Host": "localhost"})
    response = connection.getresponse()

    assert (response.status, response.headers["Location"]) == (301, "https://localhost/oda/run_analysis")
    connection.close()


def test_all_routes_that_change_something_are_sent_once() -> None:
    (names,) = re.findall(r"location ~ \"/\(\?:(.*)\)\(\?:/\|\$\)\"", SITE.read_text())

    assert set(names.split("|")) == UNSAFE_ROUTES - {"run_analysis"}


class Dropping(http.server.BaseHTTPRequestHandler):
    """Closes the connection of the first request for each path without an answer, as a server does that is killed."""

    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Read a request; answer all but the first."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        """Answer all but the first request."""
        self.seen.append(f"{self.command} {self.path}")
        if self.seen.count(self.seen[-1]) > 1:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.mark.parametrize(
    ("path", "body", "expected", "requests"),
    [
        ("/run_analysis", None, 200, 2),
        ("/run_analysis", b"instrument=isgri", 200, 2),
        ("/mmoda/run_analysis", b"instrument=isgri", 200, 2),
        ("/api/meta-data", None, 200, 2),
        ("/refresh_token", None, 502, 1),
        ("/mmoda/reload-plugin/isgri", None, 502, 1),
        ("/report_incident", b"what=happened", 502, 1),
        ("/post_product_to_gallery", b"image=1", 502, 1),
    ],
)
def test_what_a_closing_process_did_not_answer_is_sent_again_where_that_does_no_harm(
    tmp_path: Path, path: str, body: bytes | None, expected: int, requests: int
) -> None:
    Dropping.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dropping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with front_end(tmp_path / "site", f"http://127.0.0.1:{server.server_port}") as site:
            status, _, _ = fetch(site, path, body)
        server.shutdown()

    assert (status, len(Dropping.seen)) == (expected, requests)
    assert set(Dropping.seen) == {f"{'GET' if body is None else 'POST'} /oda{path}"}
