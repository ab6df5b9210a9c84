"""Webhook on this machine that keeps the messages it gets."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hook:
    """Address of a webhook, and its messages in order of arrival, each with its headers and bytes."""

    url: str
    told: list[dict[str, object]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def webhook() -> Iterator[Hook]:
    """Serve a webhook on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/refuses":
                self.send_response(501)
            elif self.path == "/moved":
                self.send_response(307)
                self.send_header("Location", made.url)
            else:
                made.told.append(json.loads(body))
                made.headers.append({name.lower(): value for name, value in self.headers.items()})
                made.bodies.append(body)
                self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hook(url=f"http://127.0.0.1:{server.server_port}/hook")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()
