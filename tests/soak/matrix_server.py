"""A Matrix home server in memory, as far as the dispatcher's suite uses one: rooms, invitations, messages.

It stands in for matrix.org. The user of an access token is the token itself. A room is joined by who created it or was
invited; the first to come to any other room gets in.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import unquote, urlsplit

USER = "@barni.gabriele:matrix.org"
"""Who sends all messages: the suite expects this name."""
_ROOM = re.compile(r"/_matrix/client/[rv]\d/rooms/([^/]+)/(\w+)(?:/([^/]+))?")


@dataclass
class _Room:
    members: set[str] = field(default_factory=set)
    invited: set[str] = field(default_factory=set)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)


_rooms: dict[str, _Room] = {}
_numbers = count(1)
_lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        user = self.headers["Authorization"].removeprefix("Bearer ")
        path = unquote(urlsplit(self.path).path)
        with _lock:
            if path.endswith("/createRoom"):
                name = f"!room{next(_numbers)}:matrix.org"
                _rooms[name] = _Room(members={user})
                self._send({"room_id": name})
            elif found := _ROOM.fullmatch(path):
                self._change(_rooms.setdefault(found[1], _Room()), found[1], found[2], user, body)
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "M_UNRECOGNIZED", "Unrecognized request")

    def _change(self, room: _Room, name: str, action: str, user: str, body: dict[str, Any]) -> None:
        expected = room.members | room.invited
        if action == "join" and expected and user not in expected:
            self._refuse(HTTPStatus.FORBIDDEN, "M_FORBIDDEN", "You are not invited to this room.")
        elif action == "send":
            event_id = f"$event{next(_numbers)}"
            event = {"type": "m.room.message", "room_id": name, "event_id": event_id, "sender": USER, "user_id": USER}
            room.messages[event_id] = {**event, "content": body}
            self._send({"event_id": event_id})
        else:
            if action == "invite":
                room.invited.add(body["user_id"])
            elif action == "join":
                room.members.add(user)
            self._send({"room_id": name} if action == "join" else {})

    def do_GET(self) -> None:
        found = _ROOM.fullmatch(unquote(urlsplit(self.path).path))
        with _lock:
            messages = _rooms[found[1]].messages if found and found[1] in _rooms else {}
            if found and found[2] == "messages":
                self._send({"chunk": list(reversed(messages.values()))})
            elif found and found[3] in messages:
                self._send(messages[found[3]])
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "M_NOT_FOUND", "Event not found.")

    def _refuse(self, status: HTTPStatus, code: str, error: str) -> None:
        self._send({"errcode": code, "error": error}, status)

    def _send(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: the output belongs to the suite."""


@cache
def start() -> str:
    """Start the server in a thread, once; return its URL, which ends in a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"
