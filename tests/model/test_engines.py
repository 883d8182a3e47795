"""Which engine serves."""

import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.model import engines
from autorec_tf.model.engines import choose_engine
from tests.facts import refused


def test_auto_takes_the_sparse_engine_where_most_is_missing(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert choose_engine(Config(engine="auto"), 0.04) == "sparse"
    assert choose_engine(Config(engine="auto"), 0.9) == "dense"
    assert choose_engine(Config(engine="dense"), 0.04) == "dense"
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert choose_engine(Config(engine="auto"), 0.04) == "dense"


def test_without_numba_dense_serves_and_sparse_says_what_to_install(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert choose_engine(Config(engine="auto"), 0.04) == "dense"
    with refused("--engine sparse", "pip install numba", "--engine dense"):
        choose_engine(Config(engine="sparse"), 0.04)


def test_bfloat16_is_refused_where_it_is_emulated_and_for_the_sparse_engine(monkeypatch):
    monkeypatch.setattr(engines, "multiplies_bfloat16", lambda: False)
    with refused("--precision bfloat16", "--precision float32", "AVX512_BF16"):
        choose_engine(Config(engine="auto", precision="bfloat16"), 0.04)
    monkeypatch.setattr(engines, "multiplies_bfloat16", lambda: True)
    assert choose_engine(Config(engine="auto", precision="bfloat16"), 0.04) == "dense"
    with refused("--precision bfloat16", "--engine dense", "sparse"):
        choose_engine(Config(engine="sparse", precision="bfloat16"), 0.04)
