"""A server on 127.0.0.1 that misbehaves on demand."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Server:
    """Serves `body`; `plan` holds one instruction per request, then everything is fine."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.plan: list[Any] = []
        self.ranges: list[str | None] = []
        self.knows_ranges = True
        self.closing = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/files/"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.ranges.append(request.headers["Range"])
        order = self.plan.pop(0) if self.plan else "serve"
        if isinstance(order, int):
            request.send_error(order)
            return
        if str(order).startswith("http"):
            request.send_response(302)
            request.send_header("Location", order)
            request.end_headers()
            return
        start = 0
        if request.headers["Range"] and self.knows_ranges:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/*")
        else:
            request.send_response(200)
        rest = self.body[start:]
        if order != "cut":
            request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        if order in ("break", "stall", "cut"):  # half of what is left, then the connection closes
            rest = rest[: len(rest) // 2]
        elif order == "drip":
            for at in range(0, len(rest), 20_000):
                request.wfile.write(rest[at : at + 20_000])
                self.closing.wait(0.01)
            return
        elif order == "nothing":
            rest = b""
        request.wfile.write(rest)
        if order == "stall":  # the connection stays, nothing comes
            request.wfile.flush()
            self.closing.wait(30)


# of a benchmark's archive, its list of files and the one file: the server
Serve = Callable[[Any, dict[str, Any], bytes], Server]


@contextmanager
def serving(body: bytes) -> Iterator[Server]:
    server = Server(body)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.http.shutdown()
    server.http.server_close()
    thread.join()
