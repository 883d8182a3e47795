"""The memory that the sparse engine's results lie in: used again, and never while it is read."""

import gc
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from autorec_tf.model import sparse_engine
from autorec_tf.model.sparse_engine import ALIGNMENT, SparseEngine, aligned

SHAPE = 300, 50


@pytest.fixture
def engine():
    engine = SparseEngine(2)
    yield engine
    engine.pool.shutdown()


def address(array):
    return array.ctypes.data


def filled(engine, value, shape=SHAPE):
    array = engine.result(shape)
    array[:] = value
    return array


def returned(engine, value):
    """A result as an operation of a graph returns it, which TensorFlow takes over as it is."""
    return tf.numpy_function(lambda: filled(engine, value), [], tf.float32)


def let_go():
    """Have TensorFlow give up what it holds no longer, as it does at its next call of Python."""
    gc.collect()
    tf.numpy_function(lambda: np.zeros(1, np.float32), [], tf.float32)


def test_a_result_is_an_aligned_float32_array_of_its_shape(engine):
    for shape in ((1, 1), (7, 3), SHAPE):
        array = engine.result(shape)
        assert array.shape == shape and array.dtype == np.float32
        assert array.flags.c_contiguous and array.flags.writeable
        assert address(array) % ALIGNMENT == 0


HOLDERS = {
    "a reference": lambda array: array,
    "a view": lambda array: array[10:20, 3],
    "a view of a view": lambda array: array.reshape(-1)[7:].view(np.uint8)[5:],
    "a transposed view": lambda array: array.T,
    "a memoryview": lambda array: memoryview(array),
    "a container": lambda array: {"deep": [(array,)]},
    "a closure": lambda array: lambda: array,
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_memory_that_somebody_holds_is_not_handed_out_again(engine, hold):
    array = filled(engine, 1.0)
    taken, held = address(array), hold(array)
    del array
    others = [engine.result(SHAPE) for _ in range(5)]
    assert taken not in map(address, others)
    del held
    assert address(engine.result(SHAPE)) == taken


def test_memory_of_a_tensor_is_not_handed_out_again_while_the_tensor_lives(engine):
    tensor = tf.function(lambda: returned(engine, 1.0))()
    taken = address(np.asarray(memoryview(tensor)))
    assert taken == address(aligned(engine.results[1], SHAPE))  # else it was copied
    for value in range(2, 5):
        assert address(filled(engine, float(value))) != taken
        tf.function(returned)(engine, float(value))
        let_go()
    np.testing.assert_array_equal(tensor, np.ones(SHAPE))
    del tensor
    let_go()
    assert address(engine.result(SHAPE)) == taken


def test_memory_that_a_graph_reads_later_is_not_handed_out_again(engine):
    seen = []

    @tf.function
    def graph():
        first = returned(engine, 1.0)
        later = [returned(engine, float(value)) for value in range(2, 6)]
        with tf.control_dependencies(later):
            return tf.numpy_function(lambda x: seen.append(x.copy()) or x, [first], tf.float32)

    for _ in range(3):
        graph()
        np.testing.assert_array_equal(seen.pop(), np.ones(SHAPE))


def test_free_memory_is_handed_out_again(engine):
    first = address(engine.result(SHAPE))
    for _ in range(20):
        assert address(engine.result(SHAPE)) == first
    assert len(engine.results) == 2
    step = tf.function(lambda: returned(engine, 1.0))
    for _ in range(20):
        step()
    assert len(engine.results) <= 4


def test_memory_serves_another_shape_of_its_size_and_no_other_size(engine):
    first = address(engine.result((6, 4)))
    assert address(engine.result((4, 6))) == first
    assert address(engine.result((4, 5))) != first


def test_what_marks_a_free_result_is_never_handed_out(engine):
    for _ in range(3):
        assert engine.result((0, 0)).base is not engine.results[0]


def test_rest_gives_back_memory_and_leaves_what_is_held(engine):
    held = filled(engine, 1.0)
    engine.result((9, 9))
    engine.release_buffers()
    assert len(engine.results) == 1
    assert address(filled(engine, 2.0)) != address(held)
    np.testing.assert_array_equal(held, np.ones(SHAPE))


def test_two_threads_never_get_the_same_memory(engine, monkeypatch):
    taken, together, count = [], threading.Barrier(4), sys.getrefcount

    def slowly(x):
        result = count(x)
        time.sleep(0.001)  # in which another thread may count, too
        return result

    def work():
        for _ in range(10):
            together.wait()
            array = engine.result(SHAPE)
            taken.append(address(array))
            together.wait()
            del array

    monkeypatch.setattr(sys, "getrefcount", slowly)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rounds = [taken[start : start + 4] for start in range(0, len(taken), 4)]
    assert all(len(set(four)) == 4 for four in rounds)
    assert len(engine.results) <= 9


def test_results_do_not_depend_on_whether_memory_is_fresh(engine):
    rng = np.random.default_rng(1)
    starts = np.array([0, 3, 3, 7], np.int64)
    column = np.array([0, 2, 4, 0, 1, 3, 4], np.int32)
    weights = rng.normal(size=7).astype(np.float32)
    X = rng.normal(size=(5, 6)).astype(np.float32)
    S = np.zeros((3, 5), np.float32)
    S[np.repeat(range(3), np.diff(starts)), column] = weights
    first = engine._multiply(starts, column, weights, X, False)[0].copy()
    np.testing.assert_allclose(first, S @ X, rtol=1e-5, atol=1e-6)
    engine.result((3, 6)).fill(np.nan)
    np.testing.assert_array_equal(engine._multiply(starts, column, weights, X, False)[0], first)
    assert len(engine.results) == 2 and sparse_engine.block_rows(X) > 5
