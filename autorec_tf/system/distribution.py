"""Training one model on several devices or machines, with tf.distribute.

    --distribute mirrored   all GPUs of this machine (MirroredStrategy)
    --distribute workers    one process on each machine of TF_CONFIG (MultiWorkerMirroredStrategy)

With several GPUs, each holds all parameters and computes the gradients of its part of each
mini-batch, which are all-reduced (training/trainer.py). With several workers, each holds a column
shard (model/column_shards.py); all workers make the same decisions from the same numbers, and only
the first writes records. This module does not depend on ratings.
"""

import hashlib
import json
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorec_tf.system.errors import UserError

EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


@dataclass(frozen=True)
class Cluster:
    """The addresses ("host:port") of all workers, and the index of this process."""

    addresses: tuple[str, ...] = ("",)
    index: int = 0

    @property
    def size(self) -> int:
        return len(self.addresses)


def read_cluster(distribute: str | None) -> Cluster:
    """Return the cluster of TF_CONFIG for `--distribute workers`, otherwise a cluster of this
    process alone, ignoring TF_CONFIG. Raise UserError if TF_CONFIG is unusable."""
    if distribute != "workers":
        return Cluster()
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise UserError(f"--distribute workers needs TF_CONFIG. Set it as in {EXAMPLE}")
    try:
        content = json.loads(text)
        jobs, task = content["cluster"], content["task"]
        tasks = [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, ())))]
        addresses = tuple(jobs[job][i] for job, i in tasks)
        ports = [host_and_port(address)[1] for address in addresses]
        own_task = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise UserError(f"TF_CONFIG {text} is invalid. Set it as in {EXAMPLE}") from error
    if own_task not in tasks:
        raise UserError(f"TF_CONFIG: its task is {own_task[0]} {own_task[1]}, which is not in its "
                        f"cluster. Indices begin at 0, as in {EXAMPLE}")
    if len(set(addresses)) < len(addresses) or not all(0 < port < 2**16 for port in ports):
        raise UserError(f"TF_CONFIG: the workers have the addresses {', '.join(addresses)}. Give "
                        "each worker a different address, host:port.")
    return Cluster(addresses, tasks.index(own_task))


def host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


class Workers:
    """The workers of a `cluster`, and the replicas of a model on all their devices; without
    `distribute`, one worker and one replica. Must be created before TensorFlow runs any op."""

    def __init__(self, distribute: str | None, cluster: Cluster) -> None:
        import tensorflow as tf

        self.cluster, self.strategy = cluster, tf.distribute.get_strategy()
        if distribute == "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            if len(devices) < 2:
                num_gpus = len(devices) if devices[0].device_type == "GPU" else 0
                raise UserError("--distribute mirrored needs at least two GPUs, and TensorFlow "
                                f"finds {num_gpus}. Leave it out.")
            self.strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        elif distribute == "workers":
            tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
            self.strategy = multi_worker_strategy()

    @property
    def num_replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    def scope(self) -> Any:
        """Return the scope in which variables are created on every replica; each worker has its
        own variables."""
        return self.strategy.scope() if self.cluster.size == 1 else nullcontext()

    def all_gather(self, number: int) -> list[int]:
        """Return the `number` of each worker. All workers must call this at the same point."""
        import tensorflow as tf

        if self.cluster.size == 1:
            return [number]
        # Each worker adds a vector with its own number at its index and 0 elsewhere.
        own = tf.one_hot(self.cluster.index, self.cluster.size, number, 0, dtype=tf.int64)
        return self.strategy.reduce("SUM", own, axis=None).numpy().tolist()

    def wait_until_done(self) -> None:
        """Return when all workers have called this. A worker may exit then.

        A worker that exits right after an exchange may not have sent the others its part yet, so
        there are two. If the second one fails, another worker has exited, so all have completed the
        first.
        """
        import tensorflow as tf

        self.all_gather(0)
        with suppress(tf.errors.OpError):
            self.all_gather(0)

    def sum(self, values: Any) -> Any:
        """Return the sum of all workers' `values` (NumPy). All workers must call this at the same
        point."""
        import tensorflow as tf

        if not np.size(values):  # which would crash TensorFlow
            return values
        return self.strategy.reduce("SUM", tf.constant(values), axis=None).numpy()

    def of_first(self, values: Any) -> Any:
        """Return the first worker's `values` (NumPy), which have the same shape on all workers."""
        return self.sum(values if self.cluster.index == 0 else np.zeros_like(values))

    def assert_same_on_all_workers(self, name: str, value: object, remedy: str) -> None:
        """Raise UserError, on every worker, unless repr(`value`) is the same on all workers."""
        digest = hashlib.sha256(repr(value).encode()).hexdigest()
        numbers = self.all_gather(int(digest[:12], 16))
        others = [i for i, number in enumerate(numbers) if number != numbers[0]]
        if others:
            raise UserError(f"worker {others[0]} has different {name} from worker 0. {remedy}")

    @contextmanager
    def report_lost_workers(self, remedy: str) -> Iterator[None]:
        """Raise UserError, with `remedy`, if another worker is lost within the block."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            # TensorFlow raises UnavailableError for a worker that died or has not answered for 10
            # seconds, and the other errors for a worker that is shutting down.
            lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
                    tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError,
                    tf.errors.InternalError)
            if self.cluster.size == 1 or not isinstance(error, lost):
                raise
            # The frames refer to TensorFlow's threads for the sum. Cleared now, the threads end
            # silently; at the exit of the interpreter they would print a traceback.
            traceback.clear_frames(error.__traceback__)
            raise UserError(f"another worker has ended, or cannot be reached. {remedy}") from error


def multi_worker_strategy() -> Any:
    """Return a MultiWorkerMirroredStrategy. TensorFlow replaces the handler of SIGTERM, so restore
    the signal handlers."""
    import tensorflow as tf

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise UserError("TensorFlow cannot connect to the workers of TF_CONFIG "
                        f"({error.message.splitlines()[0]}). Start all workers again.") from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
