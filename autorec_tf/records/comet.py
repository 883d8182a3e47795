"""Comet, kept at arm's length: an experiment that cannot stop, slow or outlive a training run.

    tracker = Tracker("auto", run_name, run_dir, log=print)
    tracker.log_parameters(dataclasses.asdict(config))
    for epoch in ...:
        tracker.log_metrics({"train_rmse": 0.81, "test_rmse": 0.84}, epoch)
    tracker.log_figure(run_dir / "rmse.png")
    tracker.log_report(page)
    tracker.log_summary(summary)
    tracker.close()

One daemon thread owns comet-ml, its import included; the methods only append to a list and
return. That list is the whole record of a run (500 epochs of a few floats), so when the server
fails, at whatever point, a second thread replays it from the start into an offline archive and
follows the run to its end. comet-ml has a fallback of its own, but not for a failed start, and
not within a bounded time; one way that serves every failure is simpler than two.

An experiment is known by its key. A resumed run hands the key back and logs its whole record
again, from the first epoch on, and so does an archive that is uploaded: nobody knows what a
process that was killed had sent, and a value that is logged twice at the same step stays one
point, while one that was guessed to have arrived would be missing for good.
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
from autorec_tf.system.errors import UserError
from autorec_tf.system.terminal import shell

ARCHIVE = "comet.zip"
UNFINISHED = ".comet-"  # begins the name of the folder in which the archive is built
SILENCE = 12.0  # seconds; comet-ml itself waits 10 for an answer
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds; then the server is asked for an experiment again
# What a key looks like, for those that stand where we do not look.
KEY = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{25}(?![A-Za-z0-9])(\*[\w+/=-]*)?")

# Columns of metrics.csv and names in summary.json -> metrics in Comet, whose own delimiter is the
# slash: what is before it is a group.
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
    "seconds": "time/seconds",
}
# Each of these is a request; metrics go together.
OTHERS = ("status", "epochs", "final_test_epoch", "peak_memory_mb")

# What we name is logged, and nothing else, whatever the user's own settings say.
SETTINGS = {
    "COMET_DISABLE_AUTO_LOGGING": "1",  # no import hooks, no patches of TensorFlow and Keras
    "COMET_ERROR_TRACKING_ENABLE": "false",  # Sentry
    "COMET_INTERNAL_REPORTING": "false",  # tracebacks, which name folders
    "COMET_INTERNAL_WORKER_COUNT": "1",  # we upload one file; the default is four threads a core
    "COMET_LOGGING_CONSOLE": "CRITICAL",
    "COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL": "0",  # we ask again ourselves, and not at the end
    # log_metrics() would log two parameters an epoch of itself.
    "COMET_LOGGING_PARAMETERS_IGNORE": "comet:curr_step,comet:curr_epoch",
    # No backend is that new: turns off comet-ml's fallback archive, which ours replaces.
    "COMET_FALLBACK_STREAMER_FALLBACK_TO_OFFLINE_MIN_BACKEND_VERSION": "999.0.0",
}
NOTHING_AUTOMATIC = dict.fromkeys(
    "log_code log_graph log_git_metadata log_git_patch log_env_details log_env_gpu log_env_host "
    "log_env_cpu log_env_network log_env_disk auto_param_logging auto_metric_logging "
    "auto_output_logging auto_log_co2 parse_args".split(),
    False,
)


def find_key() -> str | None:
    """Returns the API key that comet-ml would use, None without.

    It stands in the environment or in a file; these are the places of comet-ml's configuration,
    in its order, read by the readers that it uses.
    """
    try:
        from everett.ext.inifile import ConfigIniEnv
        from everett.manager import ConfigEnvFileEnv
    except ImportError:  # without comet-ml, which brings it, no file matters
        return os.environ.get("COMET_API_KEY") or None
    named = os.environ.get("COMET_INI", os.environ.get("COMET_CONFIG"))
    if named and os.path.isdir(named):
        named = os.path.join(named, ".comet.config")
    if "COMET_API_KEY" in os.environ:
        return os.environ["COMET_API_KEY"].strip() or None
    for reader, place in (
        (ConfigEnvFileEnv, ".env"), (ConfigIniEnv, named), (ConfigIniEnv, "./.comet.config"),
        (ConfigIniEnv, "/content/drive/MyDrive/.comet.config"), (ConfigIniEnv, "~/.comet.config"),
    ):
        try:
            key = reader(place).get("api_key", ["comet"])
        except Exception:  # not in the file's format; comet-ml will say so
            continue
        if isinstance(key, str):  # not everett's mark for a value that is not there
            return key.strip() or None
    return None


def require_key() -> None:
    """Raises UserError if there is no API key: for `--comet online`, before anything is done."""
    if find_key() is None:
        raise UserError(
            "--comet online needs an API key: set COMET_API_KEY, "
            "or track offline with --comet offline"
        )


def comet_command() -> str:
    """Comet's command as the user's shell finds it: by name, or in our virtual environment."""
    beside = Path(sys.executable).with_name("comet")
    return "comet" if shutil.which("comet") or not beside.exists() else os.path.relpath(beside)


class Tracker:
    """A Comet experiment that can never stop, slow or outlive a training run.

    No method blocks but close(), and none raises. `log` is only ever called from the thread that
    calls the methods, so that no line falls into the middle of a progress line: the experiment's
    address, at most one warning, the command that uploads an archive.

    Args:
        mode: "online", "offline", "off", or "auto": online if there is an API key.
        run_name: the experiment's name.
        run_dir: the run's folder, where an offline archive is put; it must exist. What a killed
            process left there half built is removed.
        log: takes one line of text for the user.
        experiment_key: the key of the experiment that goes on; None begins a new one. The record
            is then to be logged again from its first epoch on.

    Attributes:
        experiment_key: the experiment's key, 32 letters and digits; None if the mode is "off".
    """

    def __init__(
        self, mode: str, run_name: str, run_dir: Path | str, log: Callable[[str], object],
        experiment_key: str | None = None,
    ) -> None:
        self._name, self._dir, self._log_line = run_name, Path(run_dir), log
        self.experiment_key = None if mode == "off" else experiment_key or uuid.uuid4().hex
        self._key = "" if mode == "off" else find_key() or ""
        self._online = mode == "online" or (mode == "auto" and bool(self._key))
        self._lines: SimpleQueue[str] = SimpleQueue()  # for the user, from whatever thread
        self._record: list[tuple[str, tuple, dict]] = []  # every call: method, arguments
        self._changed = threading.Condition()  # guards what is below, and the record
        self._closed = mode == "off"
        self._warned = False
        self._worker: threading.Thread  # none if the mode is "off"
        self._asked: float | None = None  # when the server was asked for an experiment
        self._experiment = None  # what it answered
        # comet-ml raises nothing when its server fails: it logs an error. This is how we know.
        self._errors = logging.Handler(logging.ERROR)
        self._errors.emit = lambda record: self._fail(record.getMessage())  # type: ignore[method-assign]
        # But for start(), which raises what it logs.
        self._errors.addFilter(lambda record: "comet_start" not in record.name)
        for folder in self._dir.glob(f"{UNFINISHED}*"):
            shutil.rmtree(folder, ignore_errors=True)
        if not self._closed:
            os.environ.update(SETTINGS)
            with self._changed:
                self._start_worker()

    def log_parameters(self, parameters: dict) -> None:
        """Logs hyper-parameters and facts about the data; nested names are joined by a bar."""
        self._log("log_parameters", dict(parameters))

    def log_metrics(self, metrics: dict[str, float | None], epoch: int) -> None:
        """Logs an epoch's row of metrics.csv, the epoch being the step too. None is left out;
        infinities and NaN are recorded as such."""
        self._log("log_metrics", renamed(metrics, CURVES), step=epoch, epoch=epoch)

    def log_figure(self, path: Path | str) -> None:
        """Logs an image file under its own name. A file that is not there is left out."""
        if os.path.isfile(path):
            self._log("log_image", str(path), name=os.path.basename(path), overwrite=True)

    def log_report(self, html: str) -> None:
        """Logs a page as the experiment's HTML, in the place of one that was there."""
        self._log("log_html", html, clear=True)

    def log_summary(self, summary: dict) -> None:
        """Logs the result, and what it is without a model, beside the curves; and how the run
        ended."""
        epoch = summary.get("epochs")
        self._log("log_metrics", renamed(summary, RESULTS), step=epoch, epoch=epoch)
        self._log("log_others", {name: summary[name] for name in OTHERS if name in summary})

    def close(self, timeout: float = 30.0, hurry: Callable[[], bool] = lambda: False) -> None:
        """Sends or writes what is left, and gives up after `timeout` seconds at the latest.

        Once `hurry` becomes true the server is given up, for the archive. So it is at a
        KeyboardInterrupt, which is raised when the archive is written, or at the second one.
        """
        hurried = hurry()  # what was asked for before this was an end in order
        end = time.monotonic() + timeout
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        try:
            if self._online:  # the last third is kept for the archive
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
                self._fail("the archive was not done in time", online=self._online)
        except KeyboardInterrupt:
            self._fail("the record was not sent yet", online=True)
            self._wait(end)
            raise
        finally:
            logging.getLogger("comet_ml").removeHandler(self._errors)
            self._tell()

    def _wait(self, end: float, in_vain: Callable[[], bool] = lambda: False) -> None:
        """Waits for the worker, till `end` at the latest or till that is `in_vain`; in slices,
        for not every version of Python lets Ctrl-C end a long join."""
        while self._worker.is_alive() and time.monotonic() < end and not in_vain():
            self._worker.join(0.1)

    def _is_silent(self) -> bool:
        """Whether the server is not there, or takes what it is sent and never answers.

        That is asked at the end only: while a run trains, waiting costs nothing. Where comet-ml
        has an experiment it pings the server every two seconds.
        """
        if self._experiment is None:
            return self._asked is not None and time.monotonic() > self._asked + SILENCE
        return not self._experiment.streamer.has_connection_to_server()

    def _log(self, method: str, *args, **kwargs) -> None:
        with self._changed:
            if not self._closed:
                self._record.append((method, args, kwargs))
                self._changed.notify_all()
        self._tell()

    def _tell(self) -> None:
        while not self._lines.empty():
            self._log_line(self._lines.get())

    def _start_worker(self) -> None:
        """Start one, with the lock held: it may fail, and be followed, at once."""
        args = (self._online,)
        worker = threading.Thread(target=self._work, args=args, name="comet", daemon=True)
        worker.start()
        self._worker = worker  # once it is alive: close() takes one that is not for done

    def _work(self, online: bool) -> None:
        """The life of one experiment, in a thread of its own."""
        try:
            comet_ml = _import_comet(self._errors)
        except BaseException as error:  # a broken package may well raise SystemExit
            self._fail(f"comet-ml cannot be imported ({error!r})", online, rescue=False)
            return
        try:
            (self._track_online if online else self._track_offline)(comet_ml)
        except BaseException as error:
            self._fail(_describe(error), online)

    def _start(self, comet_ml, folder: str | None = None):
        """Starts the experiment, in `folder` if it is an offline one. If there is one of our key
        on the server, now or when an archive is uploaded, that one is continued."""
        # Or the new experiment would first end the one that failed, over its dead connection.
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
        """Starts the experiment on the server. One that is not there, or unwell, is asked again
        for as long as the run goes on."""
        self._asked = time.monotonic()
        for pause in (*PAUSES, 0.0):
            failure: Exception
            try:
                return self._start(comet_ml)
            except OSError:  # of requests, with a text of many lines
                failure = ConnectionError("the server cannot be reached")
            except Exception as error:
                if _status(error) < 500:  # a wrong key stays wrong
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
        # It would mail the owner a summary that is headed by the name of the local user.
        experiment.send_notification = lambda *_, **__: None
        self._lines.put(f"Comet: {experiment.url}")
        if self._feed(experiment, online=True):
            experiment.end()
            shutil.rmtree(experiment.tmpdir, ignore_errors=True)  # which comet-ml forgets
            if not experiment.streamer.has_connection_to_server():
                raise ConnectionError("the connection broke before the whole record was sent")
            # One that was written before the run was resumed; the server has more than it holds.
            (self._dir / ARCHIVE).unlink(missing_ok=True)

    def _track_offline(self, comet_ml) -> None:
        # Built beside and then moved: what lies in the run folder as comet.zip is whole.
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self._dir) as folder:
            experiment = self._start(comet_ml, folder)
            experiment.streamer.queue_timeout = 0.05  # of 1 s, which nothing ends at the end
            self._feed(experiment, online=False)
            experiment.end()
            if experiment.customer_error_reported:  # a full disk raises nothing here
                raise OSError(experiment.customer_error_message)
            (built,) = Path(folder).glob("*.zip")
            with zipfile.ZipFile(built) as content:
                content.getinfo("messages.json")
            os.replace(built, self._dir / ARCHIVE)
        upload = shell([comet_command(), "upload", self._dir / ARCHIVE])
        self._lines.put(f"Comet: send this run with `{upload}`")

    def _feed(self, experiment, online: bool) -> bool:
        """Gives the experiment the record from its first call on, and each new call until the run
        is closed. Returns False if the experiment was given up before."""
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

    def _fail(self, what: str, online: bool = True, rescue: bool = True) -> None:
        """Warns, once, and has an archive written if it was the online experiment that failed."""
        with self._changed:
            if online != self._online:
                return  # a late cry of an experiment that is given up already
            rescued = online and rescue
            if rescued:
                self._online = False
                self._changed.notify_all()
                remedy = f"and its record goes to {self._dir / ARCHIVE} instead"
            else:
                remedy = "but it leaves no Comet record"
            for secret in (self._key, self._key.split("*")[0]):
                what = what.replace(secret or "<key>", "<key>")
            what = KEY.sub("<key>", what)
            what = what.split("\n")[0].split(". ")[0].rstrip(" .")[:300]
            if self._warned:
                self._lines.put(f"Comet: the offline archive could not be written ({what})")
            else:
                self._lines.put(f"warning: Comet: {what}; training is not affected, {remedy}")
            self._warned = True
            if rescued:  # last: what it says comes after the warning
                self._start_worker()


def renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Returns those of `values` that have a name in Comet, under it; None is left out."""
    return {new: values[old] for old, new in names.items() if values.get(old) is not None}


def _import_comet(errors: logging.Handler):
    logger = logging.getLogger("comet_ml")
    logger.addHandler(errors)  # before the import, or what that logs goes to the terminal
    hook = sys.excepthook
    import comet_ml

    # comet-ml's hook would send the text of any exception of ours, while the process waits.
    sys.excepthook = hook
    logger.setLevel(min(logger.level, logging.ERROR))
    # It would warn of each attempt, on the terminal, while it tries again.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return comet_ml


def _status(error: Any) -> int:
    """Returns the HTTP status that `error` is about, 0 if it is about none."""
    return getattr(getattr(error, "response", None), "status_code", 0)


def _describe(error: Any) -> str:
    if type(error) is ConnectionError:
        return str(error)  # a sentence of our own
    if status := _status(error):
        reason = getattr(error, "safe_msg", None) or error.response.reason
        return f"the server answers {status} ({reason})"
    try:
        return error.log_message % error.args  # comet-ml's own errors have a sentence
    except Exception:
        return f"{type(error).__name__}: {error}"


def _release_exit() -> None:
    """Lets the process exit while an upload hangs.

    All of comet-ml's threads inherit that they are daemons from ours, and its atexit hook runs
    in no other thread than ours; only concurrent.futures joins its threads at exit regardless.
    """
    waited_for: Any = concurrent.futures.thread._threads_queues  # private: its type is not told
    for thread in list(waited_for):
        if thread.daemon:
            waited_for.pop(thread, None)
