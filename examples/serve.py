"""An example service: a saved model answers over HTTP, with Python's standard library.

    python examples/serve.py model.npz               # at http://127.0.0.1:8000
    curl -d '{"users": [1, 1], "items": [1, 2]}' http://127.0.0.1:8000/predict

`model.npz` is a file of `AutoRecModel.save`, or the autorec.npz of export.py. Requests are POST
with a JSON object, and answers are JSON objects. An id is a number or text, as in the ratings.

    /predict    {"users": [...], "items": [...]}
                -> {"predictions": [...]}
    /recommend  {"users": [...], "n": 10}, or for somebody who is not in the model
                {"ratings": [{"item", "rating"}, ...], "n": 10}
                -> {"recommendations": [{"user", "rank", "item", "title", "prediction", "ratings"},
                    ...]}, without "user" for ratings
                Both may have "exclude" and "candidates": the ids of items to leave out, and of the
                only ones to choose from.
    /fold_in    {"ratings": [{"user", "item", "rating"}, ...]}
                -> {"ratings": number of ratings}; later answers use them, until the service ends

A request that cannot be answered gets a status of 400 or above and {"error": one line}. The service
ends on SIGINT and SIGTERM, after the answers that it has begun. It has no authentication and no
encryption: let only programs that you trust connect to it.
"""

import argparse
import io
import json
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if __name__ == "__main__":
    # Requests run side by side. If NumPy has several threads for each, they wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # a checkout without installation

import pandas as pd  # noqa: E402

from autorec_tf import AutoRecModel, AutoRecWarning, UserError, load  # noqa: E402

MOST_BYTES, MOST_RATINGS = 1 << 20, 1_000  # in a request
MOST_USERS, MOST_ITEMS = 1_000, 100_000  # recommended to, and recommended, in one answer
MOST_CONNECTIONS = 256  # each has a thread
SECONDS = 10.0  # for a request to arrive, and for an answer to be read
OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Refused(Exception):
    """A request that is not answered: an HTTP status, and one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """The answers of a model. Each method takes the content of a request and returns the answer."""

    def __init__(self, model: AutoRecModel) -> None:
        self.model, self.lock = model, threading.Lock()
        self.answers: dict[str, Callable[[dict], dict]] = {
            "/predict": self.predict, "/recommend": self.recommend, "/fold_in": self.fold_in,
        }

    def predict(self, request: dict) -> dict:
        check_keys(request, ("users", "items"))
        users, items = (as_ids(request[name], name) for name in ("users", "items"))
        return {"predictions": self.model.predict(users, items).tolist()}

    def recommend(self, request: dict) -> dict:
        among = ("n", "candidates", "exclude")
        if "ratings" in request:
            check_keys(request, ("ratings",), among)
            given = as_ratings(request["ratings"], ("item",))
            ratings = dict(zip(given["item"], given["rating"], strict=True))
            if len(ratings) < len(given):
                raise Refused(400, "ratings contains an item twice")
            table = self.model.recommend(ratings=ratings, **choice(request, 1)).reset_index()
        else:
            check_keys(request, ("users",), among)
            users = as_ids(request["users"], "users")
            if len(users) > MOST_USERS:
                raise Refused(400, f"users must be at most {MOST_USERS:,} ids")
            table = self.model.recommend(users=users, **choice(request, len(users)))
        return {"recommendations": table.to_dict("records")}

    def fold_in(self, request: dict) -> dict:
        check_keys(request, ("ratings",))
        ratings = as_ratings(request["ratings"], ("user", "item"))
        if not self.lock.acquire(timeout=SECONDS):
            raise Refused(503, "other ratings are still being folded in. Try again later.")
        try:  # the model that answers meanwhile does not change
            self.model = self.model.fold_in(ratings, columns=list(ratings))
        finally:
            self.lock.release()
        return {"ratings": len(ratings)}


def check_keys(request: dict, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Refuse a request with other keys."""
    for name in required:
        if name not in request:
            raise Refused(400, f"{name} is missing. Give {', '.join(required)}.")
    for name in request:
        if name not in (*required, *optional):
            known = ", ".join((*required, *optional))
            raise Refused(400, f"{json.dumps(name)[:80]} is not a key here. The keys are {known}.")


def as_ids(values: Any, name: str, least: int = 1) -> list[str]:
    """Return a list of at least `least` ids as text."""
    if not isinstance(values, list) or len(values) < least:
        raise Refused(400, f"{name} must be a list of ids")
    return [as_id(value, name) for value in values]


def as_id(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(400, f"{name}: the id {json.dumps(value)[:80]} is not a number or text")
    return str(value)


def choice(request: dict, lists: int) -> dict[str, Any]:
    """Return the arguments of `AutoRecModel.recommend` for each of `lists` lists."""
    n = request.get("n", 10)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_ITEMS // lists:
        raise Refused(400, f"n must be a whole number from 1 to {MOST_ITEMS // lists:,}")
    arguments = {"n": n, "exclude": as_ids(request.get("exclude", []), "exclude", 0)}
    if "candidates" in request:
        arguments["candidates"] = as_ids(request["candidates"], "candidates")
    return arguments


def as_ratings(values: Any, ids: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with the columns `ids` and rating."""
    if not isinstance(values, list) or not 1 <= len(values) <= MOST_RATINGS:
        raise Refused(400, f"ratings must be a list of 1 to {MOST_RATINGS:,} objects")
    columns: dict[str, list] = {name: [] for name in (*ids, "rating")}
    for value in values:
        if not isinstance(value, dict) or set(value) != set(columns):
            raise Refused(400, f"each rating must be an object with the keys {', '.join(columns)}")
        rating = value["rating"]
        if isinstance(rating, bool) or not isinstance(rating, int | float) or (
                not math.isfinite(rating)):
            raise Refused(400, f"the rating {json.dumps(rating)[:80]} is not a number")
        columns["rating"].append(rating)
        for name in ids:
            columns[name].append(as_id(value[name], name))
    return pd.DataFrame(columns)


class Connection(io.RawIOBase):
    """What arrives on a socket before a deadline, which is for all of it: a client that sends one
    byte at a time does not keep its thread."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.deadline = connection, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request is incomplete")
        self.socket.settimeout(left)
        return self.socket.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """One connection, with any number of requests."""

    protocol_version = default_request_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would hold back an answer for 40 ms
    wbufsize = -1  # an answer is written at once
    server: "Server"

    def setup(self) -> None:
        super().setup()
        self.incoming = Connection(self.connection)
        self.rfile = io.BufferedReader(self.incoming)

    def handle_one_request(self) -> None:
        self.incoming.deadline = time.monotonic() + SECONDS
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.incoming.deadline = time.monotonic() + SECONDS
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        return True  # `read` asks for the body if it is wanted

    def do_POST(self) -> None:
        try:
            status, content = 200, self.server.service.answers[self.route()](self.read())
        except Refused as error:
            status, content = error.status, {"error": str(error)}
        except UserError as error:
            status, content = 400, {"error": str(error)}
        except TimeoutError as error:
            status, content = 408, {"error": str(error)}
        except ConnectionError:
            raise
        except Exception:
            traceback.print_exc()
            status, content = 500, {"error": "the service failed. Its log has the reason."}
        # What is left of a body would be read as the next request.
        self.close_connection |= status >= 400
        self.answer(status, content)

    def route(self) -> str:
        path, known = urlsplit(self.path).path, self.server.service.answers
        if path not in known:
            raise Refused(404, f"{json.dumps(path)[:80]} is not a path here. The paths are "
                          f"{', '.join(known)}.")
        return path

    def read(self) -> dict:
        """Return the JSON object in the body of the request."""
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1:
            raise Refused(411, "send the body with one Content-Length")
        if not (lengths[0].isascii() and lengths[0].isdigit()):
            raise Refused(400, "Content-Length must be a whole number")
        if len(lengths[0]) > 18 or int(lengths[0]) > MOST_BYTES:
            raise Refused(413, f"the body must have at most {MOST_BYTES:,} bytes")
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        body = self.rfile.read(int(lengths[0]))
        if len(body) < int(lengths[0]):
            raise ConnectionError("the client has closed the connection")
        return parse(body)

    def answer(self, status: int, content: dict) -> None:
        body = f"{json.dumps(content, allow_nan=False)}\n".encode()
        self.connection.settimeout(SECONDS)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 405:
            self.send_header("Allow", "POST")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if self.close_connection:
            self.wfile.flush()
            self.discard()

    def discard(self) -> None:
        """Read what the client still sends. Closing earlier would destroy the answer, too."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read1(1 << 16):
                pass
        except OSError:
            pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not valid HTTP, or has another method than POST."""
        self.close_connection = True
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = 405, "the method must be POST"
        self.answer(code, {"error": message or self.responses[code][0]})

    def version_string(self) -> str:
        return "autorec"

    def log_message(self, *arguments: Any) -> None:
        """Print nothing for each request."""


def parse(body: bytes) -> dict:
    """Return the JSON object in `body`."""
    try:
        content = json.loads(body.decode(), parse_constant=refuse_constant,
                             object_pairs_hook=without_repetition)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}"[:200]) from error
    if not isinstance(content, dict):
        raise Refused(400, "the body must be a JSON object")
    return content


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def without_repetition(pairs: list[tuple[str, Any]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is repeated")
    return content


class Server(ThreadingHTTPServer):
    """A thread for each connection. Closing waits for the answers that have begun."""

    daemon_threads, request_queue_size = False, 128

    def __init__(self, address: tuple[str, int], service: Service) -> None:
        self.service = service
        self.connections: set[socket.socket] = set()
        super().__init__(address, Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if len(self.connections) <= MOST_CONNECTIONS:
            return True
        request.sendall(OVERLOADED)
        return False

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # of a client that has gone
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        for connection in list(self.connections):  # idle ones would be waited for
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                pass
        super().server_close()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("serve.py", description="Answer over HTTP from a saved model.")
    parser.add_argument("model", help="a file of AutoRecModel.save, or autorec.npz of an export")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000,
                        help="port, or 0 for any free one (default: 8000)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until a signal arrives. Return the exit code."""
    given = parse_arguments(arguments)
    warnings.simplefilter("ignore", AutoRecWarning)  # predictions of unknown ids, in each request
    try:
        server = Server((given.host, given.port), Service(load(given.model)))
    except UserError as error:
        return failed(error)
    except (OSError, OverflowError) as error:
        return failed(f"cannot listen at {given.host}:{given.port} ({error}). Choose another "
                      "--host or --port.")
    except KeyboardInterrupt:
        return 130
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    host, port = server.server_address[:2]
    print(f"Serving {given.model} at http://{host}:{port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    return 0


def failed(error: object) -> int:
    print(f"serve.py: error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
