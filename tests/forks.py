"""Processes that start fast: forks of a server that has imported what the program imports.

They run main.py, or other Python, as a process of its own: arguments, folder, environment, output,
signals and exit code. Only the imports, which are most of a small run's time, are not repeated; so
the tests of starting, of standard streams and of terminals start processes from nothing.
"""

import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from tests.program import MAIN, environment

FORKS = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
SERVER = multiprocessing.get_context("forkserver" if FORKS else "spawn")
SERVER.set_forkserver_preload(["tests.preloaded"])


class Fork:
    """As `subprocess.Popen` with text in pipes: `arguments` are those of Python, a script or `-c`
    and code first. `streams` names other files for stdin, stdout and stderr (0, 1, 2); None closes
    them."""

    def __init__(self, arguments, cwd, env, streams=()):
        self._outputs = [tempfile.NamedTemporaryFile() for _ in range(2)]
        paths = {n: output.name for n, output in enumerate(self._outputs, 1)} | dict(streams)
        self._process = SERVER.Process(
            target=run, args=([*map(str, arguments)], str(cwd), env, paths)
        )
        with chdir(MAIN.parent):  # where a server that starts finds `tests.preloaded`
            self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("fork", timeout)
        return self._process.exitcode

    def communicate(self, timeout=None):
        """Return what was printed, and what is on stderr, when the process has ended."""
        self.wait(timeout)
        return tuple(Path(output.name).read_text("utf-8") for output in self._outputs)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def main_in_fork(*arguments, cwd, **changes):
    """Return the completed run of main.py with some flags, in a changed environment."""
    process = Fork([MAIN, *arguments], cwd, environment(**changes))
    return subprocess.CompletedProcess(arguments, process.wait(), *process.communicate())


class Imported:
    """A server as above, but of some `modules`, imported in an environment with some `changes`. Its
    forks run one after the other, and end as any interpreter does, with what it calls and joins at
    exit."""

    CODE = """
import gc, importlib, json, os, signal, sys
from tests.forks import run
for module in sys.argv[1:]:
    importlib.import_module(module)
gc.freeze()  # or every fork would collect what it has imported
for line in sys.stdin:
    if os.fork() == 0:
        signal.alarm(60)
        run(*json.loads(line))
        break
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""

    def __init__(self, *modules, **changes):
        self._server = subprocess.Popen(
            [sys.executable, "-c", self.CODE, *modules], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env=environment(PYTHONPATH=str(MAIN.parent), **changes),
        )

    def run(self, arguments, cwd, env):
        """Return the completed run of Python with `arguments`, as `Fork` has them."""
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as error:
            job = [[*map(str, arguments)], str(cwd), env, {1: out.name, 2: error.name}]
            print(json.dumps(job), file=self._server.stdin, flush=True)
            code = int(self._server.stdout.readline())
            outputs = (file.read().decode() for file in (out, error))
            return subprocess.CompletedProcess(arguments, code, *outputs)

    def close(self):
        self._server.communicate()


def run(arguments, cwd, env, streams):
    """In the fork: run Python with `arguments`."""
    # As at a terminal, also if the tests run in the background, where SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    streams = {int(number): path for number, path in streams.items()}  # they may come as JSON
    for number, path in streams.items():
        if path:
            file = os.open(path, os.O_RDWR | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if number in streams:
            mode, stream = "w" if number else "r", None
            if streams[number]:
                stream = open(number, mode, 1, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
    for number, path in streams.items():
        if not path:
            os.close(number)  # last, so that no file opened above gets its number
    sys.argv = arguments
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(arguments[0], run_name="__main__")
