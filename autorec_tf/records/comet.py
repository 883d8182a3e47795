"""Comet experiments that cannot stop, slow down or outlive a training run.

    tracker = Tracker("auto", run_name, run_dir, log=print)
    tracker.log_parameters(dataclasses.asdict(config))
    for epoch in ...:
        tracker.log_metrics({"train_rmse": 0.81, "test_rmse": 0.84}, epoch)
    tracker.log_figure(run_dir / "rmse.png")
    tracker.log_report(page)
    tracker.log_summary(summary)
    tracker.close()

One daemon thread imports and uses comet-ml; the methods only append to a list and return. The list
is the complete record of a run (500 epochs of a few floats). If the server fails at any point, a
second thread replays the list from its beginning into an offline archive, and follows the run to
its end. comet-ml has its own fallback, but not for a failed start, and not within a bounded time;
one mechanism for every failure is simpler than two.

The key of an experiment identifies it. A resumed run passes the key and logs its record again from
the first epoch, and so does an uploaded archive: it is unknown how much a killed process had sent.
A value that is logged twice at the same step remains one point, whereas a value that is wrongly
assumed to have arrived would be missing.
"""

import concurrent.futures.thread
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from autorec_tf.evaluation.metrics import RECONSTRUCTION
from autorec_tf.system.errors import UserError, printable
from autorec_tf.system.files import sync
from autorec_tf.system.terminal import shell

ARCHIVE = "comet.zip"
UNFINISHED = ".comet-"  # prefix of the folder in which the archive is built
SILENCE = 12.0  # seconds; comet-ml itself waits 10 for an answer
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between requests to the server for an experiment
# The form of a key, to hide keys that `find_key` does not find.
KEY = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{25}(?![A-Za-z0-9])(\*[\w+/=-]*)?")

# Columns of metrics.csv and names in summary.json -> metrics in Comet, where the part before the
# slash is a group.
CURVES = {
    "learning_rate": "train/learning_rate",
    "train_cost": "train/cost",
    "train_rmse": "train/rmse",
    "test_cost": "test/cost",
    "test_rmse": "test/rmse",
    "test_mae": "test/mae",
    "validation_rmse": "validation/rmse",
    RECONSTRUCTION: "reconstruction/rmse_test_ratings_as_input",
    "epoch_seconds": "time/epoch_seconds",
    "elapsed_seconds": "time/elapsed_seconds",
}
RESULTS = {
    "final_train_rmse": "train/final_rmse",
    "final_validation_rmse": "validation/final_rmse",
    "final_test_rmse": "test/final_rmse",
    "final_test_mae": "test/final_mae",
    "biases_test_rmse": "test/biases_rmse",
    "global_mean_test_rmse": "test/global_mean_rmse",
    "ndcg_at_10": "test/ndcg_at_10",
    "recall_at_10": "test/recall_at_10",
    "coverage_at_10": "test/coverage_at_10",
    "popularity_ndcg_at_10": "test/popularity_ndcg_at_10",
    "popularity_recall_at_10": "test/popularity_recall_at_10",
    "popularity_coverage_at_10": "test/popularity_coverage_at_10",
    "seconds": "time/seconds",
}
# Each of these is a separate request, while metrics share one.
OTHERS = ("status", "epochs", "final_test_epoch", "peak_memory_mb")

# Log only what this module logs explicitly, overriding the user's Comet settings.
SETTINGS = {
    "COMET_DISABLE_AUTO_LOGGING": "1",  # no import hooks, no patches of TensorFlow and Keras
    "COMET_ERROR_TRACKING_ENABLE": "false",  # Sentry
    "COMET_INTERNAL_REPORTING": "false",  # tracebacks, which name folders
    "COMET_INTERNAL_WORKER_COUNT": "1",  # there is one file to upload; the default is four per core
    "COMET_LOGGING_CONSOLE": "CRITICAL",
    "COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL": "0",  # _ask_server() retries itself
    # log_metrics() would also log two parameters per epoch.
    "COMET_LOGGING_PARAMETERS_IGNORE": "comet:curr_step,comet:curr_epoch",
    # No backend has this version. It turns off comet-ml's fallback archive, which ours replaces.
    "COMET_FALLBACK_STREAMER_FALLBACK_TO_OFFLINE_MIN_BACKEND_VERSION": "999.0.0",
}
NOTHING_AUTOMATIC = dict.fromkeys(
    "log_code log_graph log_git_metadata log_git_patch log_env_details log_env_gpu log_env_host "
    "log_env_cpu log_env_network log_env_disk auto_param_logging auto_metric_logging "
    "auto_output_logging auto_log_co2 parse_args".split(),
    False,
)


def find_key() -> str | None:
    """Return the API key that comet-ml would use, or None.

    The key is in the environment or in a configuration file of comet-ml. The files are searched in
    comet-ml's order and with its readers.
    """
    try:
        from everett.ext.inifile import ConfigIniEnv
        from everett.manager import ConfigEnvFileEnv
    except ImportError:  # everett is installed with comet-ml; without it, files are not read
        return os.environ.get("COMET_API_KEY") or None
    configured = os.environ.get("COMET_INI", os.environ.get("COMET_CONFIG"))
    if configured and os.path.isdir(configured):
        configured = os.path.join(configured, ".comet.config")
    if "COMET_API_KEY" in os.environ:
        return os.environ["COMET_API_KEY"].strip() or None
    for reader, path in (
        (ConfigEnvFileEnv, ".env"), (ConfigIniEnv, configured), (ConfigIniEnv, "./.comet.config"),
        (ConfigIniEnv, "/content/drive/MyDrive/.comet.config"), (ConfigIniEnv, "~/.comet.config"),
    ):
        try:
            key = reader(path).get("api_key", ["comet"])
        except Exception:  # a file in a different format; comet-ml will report it
            continue
        if isinstance(key, str):  # not everett's marker of a missing value
            return key.strip() or None
    return None


def require_key() -> None:
    """Raise UserError without an API key, at the start of a run with `--comet online`."""
    if find_key() is None:
        raise UserError("--comet online needs an API key. Set COMET_API_KEY, or write an offline "
                        "archive with --comet offline.")


def comet_command() -> str:
    """Return Comet's command as the user's shell finds it: by name, or next to this Python."""
    sibling = Path(sys.executable).with_name("comet")
    return "comet" if shutil.which("comet") or not sibling.exists() else os.path.relpath(sibling)


class Tracker:
    """A Comet experiment that can never stop, slow down or outlive a training run.

    Only close() blocks, and no method raises. `log` is called only from the thread that calls the
    methods, so that a line cannot interrupt a progress line. It receives the address of the
    experiment, at most one warning, and the command that uploads an archive.

    Args:
        mode: "online", "offline", "off", or "auto": online if there is an API key.
        run_name: the name of the experiment.
        run_dir: the run folder, which must exist. An offline archive is written there, and an
            unfinished archive of a killed process is removed.
        log: takes one line of text for the user.
        experiment_key: the key of the experiment of a resumed run, which logs its record again from
            the first epoch; None begins a new experiment.

    Attributes:
        experiment_key: the key of the experiment, 32 letters and digits; None if the mode is "off".
    """

    def __init__(
        self, mode: str, run_name: str, run_dir: Path | str, log: Callable[[str], object],
        experiment_key: str | None = None,
    ) -> None:
        self._name, self._dir, self._log_line = printable(run_name), Path(run_dir), log
        self.experiment_key = None if mode == "off" else experiment_key or uuid.uuid4().hex
        self._key = "" if mode == "off" else find_key() or ""
        self._online = mode == "online" or (mode == "auto" and bool(self._key))
        self._lines: SimpleQueue[str] = SimpleQueue()  # for the user, from any thread
        self._record: list[tuple[str, tuple, dict]] = []  # every call: method, arguments
        self._changed = threading.Condition()  # guards the attributes below and the record
        self._closed = mode == "off"
        self._warned = False
        self._worker: threading.Thread  # not set if the mode is "off"
        self._asked: float | None = None  # time of the request for an experiment
        self._experiment = None  # the answer of the server
        # When the server fails, comet-ml does not raise, but logs an error, which is caught here.
        self._errors = logging.Handler(logging.ERROR)
        self._errors.emit = lambda record: self._fail(record.getMessage())  # type: ignore[method-assign]
        # Except in start(), which also raises the error.
        self._errors.addFilter(lambda record: "comet_start" not in record.name)
        for folder in self._dir.glob(f"{UNFINISHED}*"):
            shutil.rmtree(folder, ignore_errors=True)
        if not self._closed:
            os.environ.update(SETTINGS)
            with self._changed:
                self._start_worker()

    def log_parameters(self, parameters: dict) -> None:
        """Log hyper-parameters and facts about the data; nested names are joined by a bar."""
        self._log("log_parameters", readable(parameters))

    def log_metrics(self, metrics: dict[str, float | None], epoch: int) -> None:
        """Log the row of an epoch in metrics.csv, with the epoch as the step. None is omitted;
        infinities and NaN are recorded as they are."""
        self._log("log_metrics", renamed(metrics, CURVES), step=epoch, epoch=epoch)

    def log_figure(self, path: Path | str) -> None:
        """Log an image file under its own name. A missing file is ignored."""
        if os.path.isfile(path):
            self._log("log_image", str(path), name=os.path.basename(path), overwrite=True)

    def log_report(self, html: str) -> None:
        """Log a page as the HTML of the experiment, replacing an earlier one."""
        self._log("log_html", html, clear=True)

    def log_summary(self, summary: dict) -> None:
        """Log the result, the results without a model, and the status of the run."""
        epoch = summary.get("epochs")
        self._log("log_metrics", renamed(summary, RESULTS), step=epoch, epoch=epoch)
        others = {name: summary[name] for name in OTHERS if name in summary}
        self._log("log_others", readable(others))

    def close(self, timeout: float = 30.0, hurry: Callable[[], bool] = lambda: False) -> None:
        """Send or write the rest of the record, for at most `timeout` seconds.

        When `hurry` becomes true, or at a KeyboardInterrupt, stop sending and write the archive
        instead. The KeyboardInterrupt is raised again when the archive is written, or at the second
        one.
        """
        hurried = hurry()  # an earlier request ended the run in order
        end = time.monotonic() + timeout
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        try:
            if self._online:  # the last third is reserved for the archive
                self._wait(
                    end - timeout / 3, lambda: self._is_silent() or hurry() is not hurried
                )
                if self._worker.is_alive():
                    why = "the server is too slow"
                    if hurry() is not hurried:
                        why = "the record was not sent yet"
                    elif self._is_silent():
                        why = "the server does not answer"
                    self._fail(why, online=True)
            self._wait(end)
            if self._worker.is_alive():
                self._fail("the archive was not complete in time", online=self._online)
        except KeyboardInterrupt:
            self._fail("the record was not sent yet", online=True)
            self._wait(end)
            raise
        finally:
            logging.getLogger("comet_ml").removeHandler(self._errors)
            self._log_lines()

    def _wait(self, end: float, give_up: Callable[[], bool] = lambda: False) -> None:
        """Wait for the worker until `end` or until `give_up` is true, in short intervals: not every
        version of Python lets Ctrl-C end a long join."""
        while self._worker.is_alive() and time.monotonic() < end and not give_up():
            self._worker.join(0.1)

    def _is_silent(self) -> bool:
        """Return whether the server cannot be reached, or accepts requests and never answers.

        This is called only at the end: during training, waiting costs nothing. Once there is an
        experiment, comet-ml pings the server every two seconds.
        """
        if self._experiment is None:
            return self._asked is not None and time.monotonic() > self._asked + SILENCE
        return not self._experiment.streamer.has_connection_to_server()

    def _log(self, method: str, *args, **kwargs) -> None:
        with self._changed:
            if not self._closed:
                self._record.append((method, args, kwargs))
                self._changed.notify_all()
        self._log_lines()

    def _log_lines(self) -> None:
        while not self._lines.empty():
            self._log_line(self._lines.get())

    def _start_worker(self) -> None:
        """Start a worker, with the lock held: it may fail, and be replaced, immediately."""
        args = (self._online,)
        worker = threading.Thread(target=self._work, args=args, name="comet", daemon=True)
        worker.start()
        self._worker = worker  # after start(): close() considers a worker that is not alive as done

    def _work(self, online: bool) -> None:
        """Run one experiment from start to end, in its own thread."""
        try:
            comet_ml = _import_comet(self._errors)
        except BaseException as error:  # a broken package may raise SystemExit
            self._fail(f"comet-ml cannot be imported ({error!r})", online, rescue=False)
            return
        try:
            (self._track_online if online else self._track_offline)(comet_ml)
        except BaseException as error:
            self._fail(_describe(error), online)

    def _start(self, comet_ml, folder: str | None = None):
        """Start the experiment, an offline one if there is a `folder`. If the server already has an
        experiment with this key, now or when an archive is uploaded, it is continued."""
        # Otherwise the new experiment would first end the failed one, over its dead connection.
        comet_ml.config.set_global_experiment(None)
        return comet_ml.start(
            project_name=comet_ml.get_config("comet.project_name") or "autorec",
            experiment_key=self.experiment_key,
            mode="get_or_create",
            online=folder is None,
            experiment_config=comet_ml.ExperimentConfig(
                name=self._name, offline_directory=folder, display_summary_level=0,
                **NOTHING_AUTOMATIC,
            ),
        )

    def _ask_server(self, comet_ml: Any) -> Any:
        """Start the experiment on the server. If the server cannot be reached, or answers with an
        error 5xx, retry as long as the run continues."""
        self._asked = time.monotonic()
        for pause in (*PAUSES, 0.0):
            failure: Exception
            try:
                return self._start(comet_ml)
            except OSError:  # from requests, with a message of many lines
                failure = ConnectionError("the server cannot be reached")
            except Exception as error:
                if _status(error) < 500:  # an error that stays, such as a wrong key
                    raise
                failure = error
            with self._changed:
                if self._changed.wait_for(lambda: self._closed or not self._online, pause):
                    break
        raise failure

    def _track_online(self, comet_ml) -> None:
        experiment = self._ask_server(comet_ml)
        if not experiment.alive:
            raise ConnectionError("the experiment could not be started")
        self._experiment = experiment
        _release_exit()
        # It would mail the owner a summary with the name of the local user.
        experiment.send_notification = lambda *_, **__: None
        self._lines.put(f"Comet: {experiment.url}")
        if self._feed(experiment, online=True):
            experiment.end()
            shutil.rmtree(experiment.tmpdir, ignore_errors=True)  # comet-ml does not remove it
            if not experiment.streamer.has_connection_to_server():
                raise ConnectionError("the connection broke before the whole record was sent")
            # The archive of an earlier session of a resumed run: the server has all of it.
            (self._dir / ARCHIVE).unlink(missing_ok=True)

    def _track_offline(self, comet_ml) -> None:
        # Built in another folder and then moved, so that comet.zip is always complete.
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self._dir) as folder:
            experiment = self._start(comet_ml, folder)
            experiment.streamer.queue_timeout = 0.05  # instead of 1 s, which end() waits for
            self._feed(experiment, online=False)
            experiment.end()
            if experiment.customer_error_reported:  # a full disk does not raise here
                raise OSError(experiment.customer_error_message)
            (built,) = Path(folder).glob("*.zip")
            with zipfile.ZipFile(built) as content:
                content.getinfo("messages.json")
            sync(built)
            os.replace(built, self._dir / ARCHIVE)
            sync(self._dir)
        upload = shell([comet_command(), "upload", self._dir / ARCHIVE])
        self._lines.put(f"Comet: upload this run with `{upload}`")

    def _feed(self, experiment, online: bool) -> bool:
        """Replay the record, from its first call, into the experiment, and each new call until the
        run is closed. Return False if the experiment was abandoned before."""
        index = 0
        while True:
            with self._changed:
                while index == len(self._record) and not self._closed and online == self._online:
                    self._changed.wait()
                if index == len(self._record) or online != self._online:
                    return online == self._online
                method, args, kwargs = self._record[index]
            getattr(experiment, method)(*args, **kwargs)
            index += 1

    def _fail(self, reason: str, online: bool = True, rescue: bool = True) -> None:
        """Log a warning, once, and start an archive if the online experiment has failed."""
        with self._changed:
            if online != self._online:
                return  # a late error of an experiment that is already abandoned
            rescued = online and rescue
            if rescued:
                self._online = False
                self._changed.notify_all()
                remedy = f"and its record is written to {self._dir / ARCHIVE} instead"
            else:
                remedy = "but there is no Comet record of it"
            for secret in (self._key, self._key.split("*")[0]):
                reason = reason.replace(secret or "<key>", "<key>")
            reason = KEY.sub("<key>", reason)
            reason = reason.split("\n")[0].split(". ")[0].rstrip(" .")[:300]
            if self._warned:
                self._lines.put(f"Comet: the offline archive could not be written ({reason})")
            else:
                self._lines.put(f"warning: Comet: {reason}; training is not affected, {remedy}")
            self._warned = True
            if rescued:  # last, so that its lines follow the warning
                self._start_worker()


def readable(value: Any) -> Any:
    """Return a copy of a value that consists of JSON's types, in which all text is printable."""
    if isinstance(value, dict):
        return {name: readable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(readable, value))
    return printable(value) if isinstance(value, str) else value


def renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return the `values` that have a name in Comet, under that name, except None."""
    return {new: values[old] for old, new in names.items() if values.get(old) is not None}


def _import_comet(errors: logging.Handler):
    logger = logging.getLogger("comet_ml")
    logger.addHandler(errors)  # before the import, whose messages would appear on the terminal
    hook = sys.excepthook
    import comet_ml

    # comet-ml's hook would send the text of any exception, while the process waits.
    sys.excepthook = hook
    logger.setLevel(min(logger.level, logging.ERROR))
    # It would print a warning for each retry.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return comet_ml


def _status(error: Any) -> int:
    """Return the HTTP status of `error`, 0 if it has none."""
    return getattr(getattr(error, "response", None), "status_code", 0)


def _describe(error: Any) -> str:
    if type(error) is ConnectionError:
        return str(error)  # raised by this module
    if status := _status(error):
        reason = getattr(error, "safe_msg", None) or error.response.reason
        return f"the server answers {status} ({reason})"
    try:
        return error.log_message % error.args  # comet-ml's errors have a message
    except Exception:
        return f"{type(error).__name__}: {error}"


def _release_exit() -> None:
    """Let the process exit while an upload hangs.

    All threads of comet-ml are daemons, like the thread that creates them, and its atexit hook runs
    only in that thread. But concurrent.futures joins even daemon threads at exit.
    """
    joined_at_exit: Any = concurrent.futures.thread._threads_queues  # private: its type is unknown
    for thread in list(joined_at_exit):
        if thread.daemon:
            joined_at_exit.pop(thread, None)
