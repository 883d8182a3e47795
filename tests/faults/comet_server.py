"""A fake Comet backend on loopback, which decodes the requests of the client.

    with CometServer() as server:
        env["COMET_URL_OVERRIDE"] = server.url
        ...
    assert server.parameters["hidden_neuron"] == 500

It knows the few addresses that comet-ml uses for an experiment. Any other request is answered with
an empty object, as the backend does for requests that it accepts without a result.
"""

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

# The backend's codes for an unknown API key, an unknown experiment, and an experiment that is to be
# created but exists.
WRONG_KEY, NO_EXPERIMENT, EXPERIMENT_EXISTS = 90212, 90210, 90999

EXPERIMENT = {
    "runId": "run",
    "project_id": "project",
    "focusUrl": "http://127.0.0.1/someone/autorec/",
}
ANSWERS = {
    "clientlib/isAlive/ver": {"version": "4.9.0"},
    "clientlib/logger/add/run": EXPERIMENT,
    "clientlib/logger/get/run": EXPERIMENT,
    "clientlib/status-report/update": {
        "is_alive_beat_duration_millis": 10000,
        "gpu_monitor_interval_millis": 10000,
    },
}


class CometServer:
    """A backend in one of seven moods.

    Args:
        mood: "ok"; "slow" answers after half a second; "reject" refuses the key; "error"
            answers 500 to everything, "deny" 401; "hang" never answers; "drop" closes each
            connection without an answer, as a dead server does.
        since: end of a path; the mood is "ok" until a request for such a path arrives.
        spared: number of these requests that are still answered.
    """

    def __init__(self, mood: str = "ok", since: str = "", spared: int = 0):
        self.mood, self._next_mood = ("ok", mood) if since else (mood, "")
        self._since, self._spared = since, spared
        self.requests = []  # (path, query, decoded body), in order of arrival
        self.experiments = set()  # keys of the created experiments
        self.parameters = {}
        self.metrics = []  # (name, value, step, epoch)
        self.others = {}
        self.images = {}  # name -> bytes
        self.html = ""
        self._released = threading.Event()  # releases hanging answers at the end
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/clientlib/"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def wait_for(self, condition, seconds: float = 20.0) -> bool:
        """Wait until `condition(self)` holds, and return whether it does."""
        end = time.monotonic() + seconds
        while not condition(self) and time.monotonic() < end:
            time.sleep(0.02)
        return condition(self)

    def _handler(server):  # noqa: N805 (`self` is the handler's)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                url = urlparse(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                status, answer = server._answer(url.path.strip("/"), query, body)
                if status is None:
                    self.close_connection = True
                    return
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST

            def log_message(self, *_):
                pass

            def handle(self):
                try:
                    super().handle()
                except ConnectionError:  # the client is gone, for example killed
                    pass

        return Handler

    def _answer(self, path, query, body):
        if self._next_mood and path.endswith(self._since):
            self._spared -= 1
            if self._spared < 0:
                self.mood = self._next_mood
        if self.mood in ("error", "deny", "hang", "drop"):
            self.requests.append((path, query, None))
            if self.mood == "hang":
                self._released.wait()
            return {"error": 500, "deny": 401}.get(self.mood), {"msg": "the backend is unwell"}
        if self.mood == "slow":
            time.sleep(0.5)
        if path.endswith("upload"):
            content = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]  # the one part
            self.images[query.get("figName", query.get("fileName"))] = content
            self.requests.append((path, query, content))
            return 200, {}
        sent = json.loads(body) if body else None
        self.requests.append((path, query, sent))
        if path in ("clientlib/logger/add/run", "clientlib/logger/get/run"):
            if self.mood == "reject":
                return 400, {"sdk_error_code": WRONG_KEY, "msg": "invalid api key"}
            if path.endswith("get/run"):
                if sent["previousExperiment"] not in self.experiments:
                    return 400, {"sdk_error_code": NO_EXPERIMENT, "msg": "no such experiment"}
            elif sent["experimentKey"] in self.experiments and not sent.get("getOrCreateEnabled"):
                return 400, {"sdk_error_code": EXPERIMENT_EXISTS, "msg": "it exists"}
            else:
                self.experiments.add(sent["experimentKey"])
        if path.endswith("experiment/parameter"):
            for item in sent["values"]:
                self.parameters[item["parameterName"]] = item["parameterValue"]
        elif path.endswith("experiment/metric"):
            for item in sent["values"]:
                fields = ("metricName", "metricValue", "step", "epoch")
                self.metrics.append(tuple(item[field] for field in fields))
        elif path.endswith("write/experiment/html"):
            self.html = sent["html"] if sent["override"] else self.html + sent["html"]
        elif path.endswith("write/experiment/log-other"):
            self.others[sent["key"]] = sent["value"]
        elif path.endswith("v2/experiment/metadata"):
            if query["experimentKey"] not in self.experiments:
                return 404, {"msg": "no such experiment"}
            return 200, {"workspaceName": "someone", "projectName": "autorec"}
        return 200, ANSWERS.get(path, {})
