"""A service with the protocol of S3 in memory, which fails as it is told."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET: Final = "recordings"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "test-access-key", "AWS_SECRET_ACCESS_KEY": "test-secret-key"}
TRUNCATED: Final = (200, "Truncated")
FAULTS: Final = {
    "access denied": (403, "AccessDenied"),
    "slow down": (503, "SlowDown"),
    "another region": (301, "PermanentRedirect"),
    "no such bucket": (404, "NoSuchBucket"),
    "truncated": TRUNCATED,
}
"""Status and code of the responses to all requests; of truncated ones, the responses to GET are cut off."""


@dataclass
class FaultyBucket:
    """The objects by path, and the fault; None where it works."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    fault: tuple[int, str] | None = None

    @property
    def parameters(self) -> str:
        """The parameters of the URL of a store."""
        return f"bodies=s3://{BUCKET}/tests&endpoint={self.url}&region=here"


def _handler(bucket: FaultyBucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, status: int, body: bytes = b"", *, cut_off: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"etag"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut_off else body)
            self.close_connection = self.close_connection or cut_off

        def _respond(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if bucket.fault is not None and bucket.fault != TRUNCATED:
                status, code = bucket.fault
                self._send(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
                return
            address = urlsplit(self.path)
            if self.command == "PUT":
                bucket.objects[address.path] = content
                self._send(200)
            elif self.command == "DELETE":
                bucket.objects.pop(address.path, None)
                self._send(204)
            elif "list-type" in parse_qs(address.query):
                self._send(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
            elif address.path not in bucket.objects:
                self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self._send(200, bucket.objects[address.path], cut_off=bucket.fault == TRUNCATED)

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _respond  # noqa: N815 - of the class

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Handler


@contextmanager
def faulty_bucket() -> Iterator[FaultyBucket]:
    """Run such a service until the block ends."""
    bucket = FaultyBucket()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(bucket)) as server:
        server.daemon_threads = True
        bucket.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield bucket
        finally:
            server.shutdown()
            thread.join()
