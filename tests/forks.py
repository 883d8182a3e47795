"""Processes that start fast: forks of one server that has imported what the program imports.

They run main.py, or other Python, as a process of its own: arguments, folder, environment, output,
signals and exit code. Only the imports, which are most of a small run's time, are not repeated; so
the tests of starting, of standard streams and of terminals start processes from nothing.

The workers of pytest are forks too, of the same server: `python tests/forks.py -u -c CODE` runs as
`python -u -c CODE` does.
"""

import array
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tests.program import MAIN, environment

FORKS = "fork" in multiprocessing.get_all_start_methods()  # not on Windows
ADDRESS = "AUTOREC_FORK_SERVER"  # of the server that the workers of pytest share
NUMBER = struct.Struct("q")  # what the server answers: the process id, and its exit code


@cache  # which keeps the server's stdin open
def start_server():
    """Start the server, at `ADDRESS` in the environment. It ends with this process."""
    os.environ[ADDRESS] = os.path.join(tempfile.mkdtemp(), "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[ADDRESS])
        listener.listen(64)
        server = [sys.executable, "-m", "tests.preloaded", str(listener.fileno())]
        # Threads of OpenBLAS wait for each other in loops, and the processors are shared.
        return subprocess.Popen(server, stdin=subprocess.PIPE, pass_fds=[listener.fileno()],
                                cwd=MAIN.parent, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})


class Fork:
    """As `subprocess.Popen` with text in pipes: `arguments` are those of Python, a script or `-c`
    and code first. `streams` names other files for stdin, stdout and stderr (0, 1, 2); None closes
    them. With `inherit` they are those of this process."""

    def __init__(self, arguments, cwd, env, streams=(), inherit=False):
        self.returncode, paths, files = None, {}, [0, 1, 2]
        if not inherit:
            files = []
            self._outputs = [tempfile.NamedTemporaryFile() for _ in range(2)]
            paths = {n: output.name for n, output in enumerate(self._outputs, 1)} | dict(streams)
        if ADDRESS not in os.environ:
            start_server()
        job = json.dumps([[*map(str, arguments)], str(cwd), env, paths]).encode()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(os.environ[ADDRESS])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        self._connection.sendmsg([NUMBER.pack(len(job))], rights if files else [])
        self._connection.sendall(job)
        self.pid = receive_number(self._connection)

    def poll(self):
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is not None:
            return self.returncode
        if not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("fork", timeout)
        self.returncode = receive_number(self._connection)
        self._connection.close()
        return self.returncode

    def communicate(self, timeout=None):
        """Return what was printed, and what is on stderr, when the process has ended."""
        self.wait(timeout)
        return tuple(Path(output.name).read_text("utf-8") for output in self._outputs)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Unforked(subprocess.Popen):
    """The same process where none can fork."""

    def __init__(self, arguments, cwd, env):
        super().__init__([sys.executable, *map(str, arguments)], cwd=cwd, env=env, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)


if not FORKS:
    Fork = Unforked


def receive_number(connection):
    """Return the number that one end has sent."""
    return NUMBER.unpack(connection.recv(NUMBER.size, socket.MSG_WAITALL))[0]


def serve(listener):
    """Fork for every connection, until the process that has started the server ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            try:
                answer(connection)
            finally:
                os._exit(0)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
                pass
    shutil.rmtree(Path(listener.getsockname()).parent)


def answer(connection):
    """Run the process that is asked for, and send its id and its exit code."""
    size, files, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
    job = json.loads(connection.recv(*NUMBER.unpack(size), socket.MSG_WAITALL))
    process = multiprocessing.get_context("fork").Process(target=run, args=(*job, files))
    process.start()
    for file in files:
        os.close(file)
    connection.sendall(NUMBER.pack(process.pid))
    process.join()
    with suppress(OSError):  # nobody waits for it
        connection.sendall(NUMBER.pack(process.exitcode))


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


def run(arguments, cwd, env, streams, files=()):
    """In the fork: run Python with `arguments`. `files` are open ones for stdin, stdout, stderr."""
    # As at a terminal, also if the tests run in the background, where SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    streams = {int(number): path for number, path in streams.items()}  # they may come as JSON
    opened = {n: os.open(path, os.O_RDWR | os.O_APPEND) for n, path in streams.items() if path}
    for number, file in (opened | dict(enumerate(files))).items():
        os.dup2(file, number)
        os.close(file)
    streams |= dict.fromkeys(range(len(files)), "open")
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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the fork gets, too
    sys.exit(Fork(sys.argv[2:], Path.cwd(), {**os.environ}, inherit=True).wait())
