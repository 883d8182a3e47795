"""A stand-in for the server of the published archive, on loopback.

    with ArchiveServer(content) as server:
        monkeypatch.setattr(downloads.Dataset, "url", server.url)
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ArchiveServer:
    """Answers every request with `content`, in one of six moods.

    Args:
        mood: "ok"; "missing" answers 404; "cut" promises all, sends half and closes; "stall" sends
            half and then nothing; "hang" never answers; "trickle" sends a byte now and
            then.
    """

    def __init__(self, content: bytes, mood: str = "ok"):
        self.content, self.mood = content, mood
        self.num_requests = 0
        self._released = threading.Event()  # lets the answers that hang go at the end
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/ml-1m.zip"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def _handler(server):  # noqa: N805 (`self` is the handler's)
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.num_requests += 1
                if server.mood == "hang":
                    server._released.wait(10)
                    return
                if server.mood == "missing":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(server.content)))
                self.end_headers()
                while server.mood == "trickle" and not server._released.wait(0.05):
                    self.wfile.write(b"P")
                whole = len(server.content)
                self.wfile.write(server.content[: whole if server.mood == "ok" else whole // 2])
                if server.mood == "stall":
                    server._released.wait(10)

            def log_message(self, *_):
                pass

        return Handler
