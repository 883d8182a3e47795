"""A fake server of the published archive on loopback.

    with ArchiveServer(content) as server:
        monkeypatch.setattr(datasets.Dataset, "url", server.url)
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ArchiveServer:
    """A server that answers every request with `content`, in one of several moods.

    Args:
        mood: "ok"; "missing" answers 404; "close" closes without an answer; "nonsense" sends an
            answer that is not HTTP; "moved" redirects to another address, "loop" to the same one;
            "cut" announces all, sends half and closes; "stall" sends half and then nothing; "hang"
            never answers; "trickle" sends a byte now and then; "endless" sends for ever; "unsized"
            omits the content length; "patient" leaves the connection open after the last byte.
    """

    def __init__(self, content: bytes, mood: str = "ok"):
        self.content, self.mood = content, mood
        self.num_requests = 0
        self._released = threading.Event()  # releases hanging answers at the end
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
                mood = server.mood
                if mood == "hang":
                    server._released.wait(10)
                elif mood == "missing":
                    self.send_error(404)
                elif mood == "nonsense":
                    self.wfile.write(b"nonsense\r\n")
                elif mood == "loop" or mood == "moved" and self.path != "/moved":
                    self.send_response(302)
                    self.send_header("Location", "/moved" if mood == "moved" else self.path)
                    self.end_headers()
                elif mood != "close":
                    self.send_archive(mood, server.content)

            def send_archive(self, mood, content):
                self.send_response(200)
                if mood not in ("unsized", "endless"):
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                while mood == "trickle" and not server._released.wait(0.05):
                    self.wfile.write(b"P")
                while mood == "endless" and not server._released.is_set():
                    self.wfile.write(content)
                size = len(content)
                self.wfile.write(content[: size // 2 if mood in ("cut", "stall") else size])
                if mood in ("stall", "patient"):
                    server._released.wait(10)

            def log_message(self, *_):
                pass

        return Handler
