"""Several devices, or several machines, that train one model: TensorFlow's own tf.distribute.

    --distribute mirrored   all GPUs of this machine (MirroredStrategy)
    --distribute workers    one process on each machine of TF_CONFIG (MultiWorkerMirroredStrategy)

Of GPUs, every one holds all parameters, takes its part of each mini-batch, and has its gradients
added to the others' (training/trainer.py); workers divide the columns (model/column_shards.py).
What is to be decided, every worker decides from the same numbers; the first one alone keeps
records. Knows nothing of ratings.
"""

import hashlib
import json
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from autorec_tf.system.errors import UserError

EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


@dataclass(frozen=True)
class Cluster:
    """The addresses ("host:port") of all workers, and which of them this process is."""

    addresses: tuple[str, ...] = ("",)
    index: int = 0

    @property
    def size(self) -> int:
        return len(self.addresses)


def read_cluster(distribute: str | None) -> Cluster:
    """The cluster of `--distribute workers`, from the environment; for all else, one worker.
    Without that flag TF_CONFIG means nothing. Raises UserError for one that cannot be used."""
    if distribute != "workers":
        return Cluster()
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise UserError(f"--distribute workers needs TF_CONFIG in the environment, as {EXAMPLE}")
    try:
        content = json.loads(text)
        jobs, task = content["cluster"], content["task"]
        tasks = [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, ())))]
        addresses = tuple(jobs[job][i] for job, i in tasks)
        ports = [host_and_port(address)[1] for address in addresses]
        mine = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise UserError(f"TF_CONFIG {text} cannot be read: it is to be as {EXAMPLE}") from error
    if mine not in tasks:
        raise UserError(f"TF_CONFIG has no {mine[0]} {mine[1]}: its task must be one of the "
                        f"cluster's, whose indices count from 0, as in {EXAMPLE}")
    if len(set(addresses)) < len(addresses) or not all(0 < port < 2**16 for port in ports):
        raise UserError(f"TF_CONFIG has the workers {', '.join(addresses)}: each must have an "
                        "address of its own, host:port")
    return Cluster(addresses, tasks.index(mine))


def host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


class Workers:
    """The workers of a `cluster`, and the replicas of a model on all their devices; without
    `distribute`, one of each. To be made before TensorFlow has done anything."""

    def __init__(self, distribute: str | None, cluster: Cluster) -> None:
        import tensorflow as tf

        self.cluster, self.strategy = cluster, tf.distribute.get_strategy()
        if distribute == "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            if len(devices) < 2:
                raise UserError(
                    "--distribute mirrored needs two GPUs or more, and TensorFlow finds "
                    f"{len(devices) if devices[0].device_type == 'GPU' else 'none'}: leave it out"
                )
            self.strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        elif distribute == "workers":
            tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
            self.strategy = multi_worker_strategy()

    @property
    def num_replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    def scope(self) -> Any:
        """Where the variables that are made are every replica's; workers have each their own."""
        return self.strategy.scope() if self.cluster.size == 1 else nullcontext()

    def all_gather(self, number: int) -> list[int]:
        """The `number` of each worker, which all workers must ask for at the same place."""
        import tensorflow as tf

        if self.cluster.size == 1:
            return [number]
        # A sum of vectors that have their own number only, and else 0, is all numbers.
        own = tf.one_hot(self.cluster.index, self.cluster.size, number, 0, dtype=tf.int64)
        return self.strategy.reduce("SUM", own, axis=None).numpy().tolist()

    def sum(self, values: Any) -> Any:
        """The sum of all workers' `values` (NumPy), which all must ask for at the same place."""
        import tensorflow as tf

        return self.strategy.reduce("SUM", tf.constant(values), axis=None).numpy()

    def assert_same_on_all_workers(self, what: str, value: object, remedy: str) -> None:
        """Raise UserError, at every worker, unless `value` has the same repr at all of them."""
        digest = hashlib.sha256(repr(value).encode()).hexdigest()
        numbers = self.all_gather(int(digest[:12], 16))
        others = [i for i, number in enumerate(numbers) if number != numbers[0]]
        if others:
            raise UserError(f"worker {others[0]} has other {what} than worker 0: {remedy}")

    @contextmanager
    def report_lost_workers(self, remedy: str) -> Iterator[None]:
        """Within it, the loss of another worker is a UserError, with `remedy`."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            # Unavailable comes of a worker that died, or was not heard of for 10 seconds; the
            # others, of one that is shutting down.
            lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
                    tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError,
                    tf.errors.InternalError)
            if self.cluster.size == 1 or not isinstance(error, lost):
                raise
            # TensorFlow's threads for the sum are in its frames; they end now, and quietly, and
            # not while the interpreter does, with a traceback.
            traceback.clear_frames(error.__traceback__)
            raise UserError(f"another worker is gone, or cannot be reached: {remedy}") from error


def multi_worker_strategy() -> Any:
    """TensorFlow's, started with the signal handlers left as they are: it takes SIGTERM."""
    import tensorflow as tf

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise UserError("TensorFlow cannot join the workers of TF_CONFIG "
                        f"({error.message.splitlines()[0]}): start all of them again") from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
