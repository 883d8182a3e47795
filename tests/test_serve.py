"""The example service over HTTP: its answers are the model's, and bad requests get one line."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from autorec_tf import load, train
from examples import serve
from tests.conftest import REPOSITORY
from tests.program import environment

pytestmark = pytest.mark.eager


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A saved model of 30 users, whose ids are numbers, and 20 items, whose ids are text."""
    rng = np.random.default_rng(3)
    pairs = rng.permutation(30 * 20)[:400]
    ratings = pd.DataFrame({
        "user": 7 * (pairs // 20) + 1, "film": [f"film {p % 20}, part \"2\"" for p in pairs],
        "stars": rng.integers(1, 6, 400),
    })
    model = train(ratings, columns=("user", "film", "stars"), hidden_neuron=6, train_epoch=2,
                  progress=False)
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def server(path):
    """A running server."""
    server = serve.Server(("127.0.0.1", 0), serve.Service(load(path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def service(server, path):
    """A running server of the saved model."""
    model = server.service.model
    yield server
    server.service.model = model


def ask(server, path, content, method="POST", **headers):
    """Return the status and the content of the answer."""
    with closing(http.client.HTTPConnection(*server.server_address, timeout=20)) as connection:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def told(server, sent):
    """Return all that the server answers to bytes."""
    with closing(socket.create_connection(server.server_address, timeout=20)) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_answers_are_those_of_the_model(service, path):
    model = load(path)
    items = [f"film {i}, part \"2\"" for i in range(4)]
    users = [1, "8", 15.0, 8]
    with closing(http.client.HTTPConnection(*service.server_address, timeout=20)) as connection:
        for _ in range(2):  # on one connection
            connection.request("POST", "/predict", json.dumps({"users": users, "items": items}))
            found = json.loads(connection.getresponse().read())
            assert found == {"predictions": model.predict([1, 8, 15, 8], items).tolist()}
    status, found = ask(service, "/recommend", {"users": users, "n": 3})
    expected = model.recommend(users=[1, 8, 15, 8], n=3)
    assert status == 200 and found["recommendations"] == expected.to_dict("records")
    assert len(expected) == 12
    given = [{"item": item, "rating": rating} for item, rating in zip(items, (5, 1, 4.5, 3),
                                                                      strict=True)]
    status, found = ask(service, "/recommend", {"ratings": given, "n": 30})
    expected = model.recommend(ratings={each["item"]: each["rating"] for each in given}, n=30)
    assert status == 200 and len(expected) == 16
    assert found["recommendations"] == expected.reset_index().to_dict("records")
    left = expected["item"].tolist()
    for person in ({"users": [8]}, {"ratings": given}):
        among = {"candidates": [*left[:5], "x"], "exclude": [left[2], "y"]}
        _, found = ask(service, "/recommend", person | among)
        items = {each["item"] for each in found["recommendations"]}
        assert items <= {*left[:2], *left[3:5]}
    assert len(items) == 4


def test_ratings_that_are_folded_in_are_used_from_then_on(service, path):
    new = [{"user": 1000 + user, "item": f"film {i}, part \"2\"", "rating": 1 + (i + user) % 5}
           for user in range(4) for i in range(6)]
    statuses = []
    threads = [threading.Thread(target=lambda part=part: statuses.append(
        ask(service, "/fold_in", {"ratings": part}))) for part in (new[:6], new[6:12], new[12:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found["ratings"] for _, found in statuses) == [6, 6, 12]
    status, found = ask(service, "/recommend", {"users": [1000, 1001, 1002, 1003], "n": 20})
    assert status == 200
    users = [each["user"] for each in found["recommendations"]]
    assert users == sorted([1000, 1001, 1002, 1003] * 14)
    status, found = ask(service, "/fold_in", {"ratings": [{"user": 1, "item": "x", "rating": 6}]})
    assert status == 400 and "6" in found["error"]


RATING = {"item": "film 1, part \"2\"", "rating": 4}


@pytest.mark.parametrize("where, content, status, fact", [
    ("/predict", b"", 400, "JSON"),
    ("/predict", b'{"users": [1', 400, "JSON"),
    ("/predict", b"\xff", 400, "JSON"),
    ("/predict", b"[" * 50_000, 400, "JSON"),
    ("/predict", b'{"users": [' + b"1" * 5000 + b"]}", 400, "JSON"),
    ("/predict", b'{"users": [NaN], "items": ["x"]}', 400, "NaN"),
    ("/predict", b'{"users": [1], "users": [2], "items": ["x"]}', 400, "key"),
    ("/predict", b"[]", 400, "object"),
    ("/predict", {}, 400, "users"),
    ("/predict", {"users": [1], "items": ["x"], "a\nb": 1}, 400, "a\\nb"),
    ("/predict", {"users": 1, "items": ["x"]}, 400, "users"),
    ("/predict", {"users": [], "items": []}, 400, "users"),
    ("/predict", {"users": [1, 2], "items": ["x"]}, 400, "2 users"),
    ("/predict", {"users": [[1]], "items": ["x"]}, 400, "[1]"),
    ("/predict", {"users": [True], "items": ["x"]}, 400, "true"),
    ("/predict", {"users": [1], "items": [None]}, 400, "null"),
    ("/predict", {"users": [1] * 600_000, "items": ["x"]}, 413, "1,048,576"),
    ("/recommend", {"users": [98]}, 400, "98"),
    ("/recommend", {"users": [1, "ann\n"]}, 400, "ann\\n"),
    ("/recommend", {"users": [1], "n": 0}, 400, "n "),
    ("/recommend", {"users": [1], "n": True}, 400, "n "),
    ("/recommend", {"users": [1] * 1000, "n": 101}, 400, "100"),
    ("/recommend", {"users": [1] * 1001}, 400, "1,000"),
    ("/recommend", {"users": [1], "exclude": "film 1"}, 400, "exclude"),
    ("/recommend", {"users": [1], "candidates": []}, 400, "candidates"),
    ("/recommend", {"users": [1], "ratings": [RATING]}, 400, "users"),
    ("/recommend", {"ratings": RATING}, 400, "ratings"),
    ("/recommend", {"ratings": [RATING, RATING]}, 400, "twice"),
    ("/recommend", {"ratings": [RATING | {"item": "x"}]}, 400, "x"),
    ("/recommend", {"ratings": [RATING | {"user": 1}]}, 400, "rating"),
    ("/recommend", {"ratings": [RATING | {"rating": "4"}]}, 400, '"4"'),
    ("/recommend", {"ratings": [RATING | {"rating": 7}]}, 400, "7"),
    ("/recommend", b'{"ratings": [{"item": "x", "rating": 1e999}]}', 400, "Infinity"),
    ("/fold_in", {"ratings": [RATING]}, 400, "user"),
    ("/fold_in", {"ratings": [RATING | {"user": {}}]}, 400, "{}"),
    ("/nowhere", {}, 404, "/nowhere"),
    ("/predict/", {}, 404, "/predict/"),
])
def test_a_bad_request_gets_one_line(service, capsys, where, content, status, fact):
    found, answer = ask(service, where, content)
    assert (found, [*answer]) == (status, ["error"]) and fact in answer["error"]
    assert "\n" not in answer["error"] and len(answer["error"]) < 500
    assert ask(service, "/predict", {"users": [1], "items": ["x"]})[0] == 200
    assert capsys.readouterr().err == ""


def test_other_methods_and_other_http_get_one_line(service, capsys):
    for method in ("GET", "PUT", "DELETE", "BREW"):
        status, answer = ask(service, "/predict", b"", method)
        assert status == 405 and "POST" in answer["error"]
    assert ask(service, "/predict", b"{}", **{"Transfer-Encoding": "chunked"})[0] == 411
    post = b"POST /predict HTTP/1.1\r\n"
    for sent, status in ((post + b"\r\n", 411), (post + b"Content-Length: -1\r\n\r\n", 400),
                         (post + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 411),
                         (post + b"Content-Length: 99999999999999999999\r\n\r\n{} ", 413),
                         (post + b"x: " + b"y" * 70_000 + b"\r\n\r\n", 431), (b"\x00\r\n\r\n", 400),
                         (b"GET " + b"x" * 70_000 + b"\r\n\r\n", 414),
                         (b"HEAD /predict HTTP/1.1\r\n\r\n", 405)):
        answer = told(service, sent)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert answer.endswith(b"\r\n\r\n")  # of HEAD
    asked = told(service, post + b"Expect: 100-continue\r\nContent-Length: 2\r\n"
                 b"Connection: close\r\n\r\n{}")
    assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")
    assert capsys.readouterr().err == ""


def test_a_client_that_is_slow_or_gone_keeps_nobody_waiting(service, monkeypatch, capsys):
    monkeypatch.setattr(serve, "SECONDS", 0.2)
    monkeypatch.setattr(serve, "MOST_CONNECTIONS", 2)
    post = b"POST /predict HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
    assert told(service, post + b"{").startswith(b"HTTP/1.1 408 ")
    assert told(service, post[:9]) == b"" == told(service, b"")
    with closing(socket.create_connection(service.server_address, timeout=20)) as slow:
        slow.sendall(post)
        for _ in range(50):  # one byte at a time does not extend the time
            time.sleep(0.02)
            try:
                slow.sendall(b" ")
            except ConnectionError:
                break
            if not service.connections:
                break
        assert not service.connections
    socket.create_connection(service.server_address).close()
    idle = [socket.create_connection(service.server_address, timeout=20) for _ in range(3)]
    assert idle[2].recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    for each in idle:
        each.close()
    assert capsys.readouterr().err == ""


def test_the_end_waits_for_answers_and_not_for_idle_connections(path):
    server = serve.Server(("127.0.0.1", 0), serve.Service(load(path)))
    begun, end, found = threading.Event(), threading.Event(), []

    def predict(request):
        begun.set()
        end.wait()
        return {"done": 1}

    server.service.answers["/predict"] = predict
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    asking = threading.Thread(target=lambda: found.append(ask(server, "/predict", {})))
    asking.start()
    with closing(socket.create_connection(server.server_address)):
        begun.wait()
        server.shutdown()
        closing_it = threading.Thread(target=server.server_close)
        closing_it.start()
        closing_it.join(0.1)
        assert closing_it.is_alive()
        end.set()
        asking.join()
        closing_it.join(5)
        assert found == [(200, {"done": 1})] and not closing_it.is_alive()


@pytest.mark.slow
def test_the_program_answers_and_ends_on_a_signal(path, tmp_path):
    command = [sys.executable, str(REPOSITORY / "examples" / "serve.py")]
    options = dict(cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                   env=environment(PYTHONPATH=str(REPOSITORY)))
    process = subprocess.Popen([*command, str(path), "--port", "0"], **options)
    host, port = process.stdout.readline().split("http://")[1].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("POST", "/predict", '{"users": [1, 99], "items": ["film 1", "x"]}')
    assert connection.getresponse().status == 200
    taken = subprocess.run([*command, str(path), "--port", port.strip()], **options)
    assert (taken.returncode, taken.stdout) == (2, "") and "--port" in taken.stderr
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == ("", "") and process.returncode == 0
    missing = subprocess.run([*command, "missing.npz"], **options)
    assert missing.returncode == 2 and "missing.npz" in missing.stderr
    assert taken.stderr.count("\n") == missing.stderr.count("\n") == 1
