"""A server that answers as a test wants it to, on a free port."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal


class FakeServer:
    """`asked`: paths; `keys`: Authorization headers; `status`: what it answers with, once `open` is set.

    With `otherwise`, it is healthy to whoever asks for flows, and everything else gets that status, or no answer at all
    for "silence".
    """

    def __init__(self, otherwise: int | Literal["silence"] | None = None) -> None:
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.status = 200
        self.open = threading.Event()
        self.open.set()
        self.stopped = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fake.asked.append(self.path)
                fake.keys.append(self.headers["Authorization"])
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                fake.open.wait(60)
                healthy = otherwise is None or self.path.endswith("/flows/filter")
                if not healthy and otherwise == "silence":
                    fake.stopped.wait(600)
                    return
                self.send_response(fake.status if healthy else int(otherwise or 0))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

            def do_PATCH(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"

    def __enter__(self) -> FakeServer:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.set()
        self.stopped.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
