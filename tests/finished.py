"""Run folders without training: random parameters saved as a run saves them, and what they predict
by NumPy in float64, from the files alone."""

import csv
import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.sources import plain_name
from autorec_tf.system.files import as_utf8
from data_preprocessor import read_ml_1m, split_ratings
from tests import plain
from tests.conftest import rating_lines, triples_of
from tests.reference import Reference, Svdpp

CONFIG = Config(
    dataset="ml-1m", split_seed=1, hidden_neuron=6, engine="dense", train_ratio=0.8, comet="off"
)
BLEND = replace(CONFIG, members=("item", "user"))
# On another scale, which is mapped, and with means where nothing is known.
MEANS = replace(CONFIG, cold_rating="mean", rating_scale=(0.0, 10.0))
ONE_HOT = replace(CONFIG, input_encoding="one_hot")
SVDPP = replace(CONFIG, decoder="svdpp", optimizer_method="LBFGS", leave_one_out=True)
BIASED = replace(CONFIG, decoder="biased")
WEIGHTS = (0.6, 0.45)


@dataclass
class Made:
    """A run folder, its ratings' folder, and, as dense float64 matrices users x items: R and M, the
    training ratings as a model sees them and where they are; known, where any rating is."""

    folder: object
    data: object
    ratings: object
    R: np.ndarray
    M: np.ndarray
    known: np.ndarray

    def raw(self):
        """Each member's raw predictions, users x items."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        if not config["members"]:
            return [self.member("parameters", config, config["orientation"])]
        return [self.member(f"parameters_{i}", config, each)
                for i, each in enumerate(("item", "user"), 1)]

    def member(self, name, config, orientation):
        reference = self.reference(name, config)
        return reference.predict(self.R) if orientation == "user" else reference.predict(self.R.T).T

    def reference(self, name, config):
        saved = str(self.folder / name)
        V, W, mu, b = (load(saved, key) for key in ("V", "W", "mu", "b"))
        layers = len(config["hidden_neuron"]) - 1
        inner = [load(saved, f"inner/{i}/{j}") for i in range(layers) for j in range(2)]
        coded = {}
        if config["input_encoding"] == "one_hot":
            coded = {"D": load(saved, "D"), "values": np.unique(self.R[self.M > 0])}
        settings = (
            V, W, mu, b, inner, 0, False, 0, 0, config["hidden_activation"],
            config["output_activation"], (1.0, 5.0),
        )
        if config["decoder"] == "own":
            return Reference(*settings, **coded)
        reference = Svdpp(*settings, **coded)
        reference.c = load(saved, "c")
        has_Y = config["decoder"] == "svdpp"
        reference.Y = load(saved, "Y") if has_Y else np.zeros((len(reference.c), len(W)))
        return reference

    @property
    def scale(self):
        return self.ratings.scale

    def biases(self):
        """The mean, and each user's and item's part, in the file's unit."""
        users, items = np.nonzero(self.M)
        return plain.biases(
            zip(users, items, plain.to_file(self.R, self.scale)[users, items], strict=True),
            *self.R.shape,
        )

    def cold_ratings(self):
        """What cold pairs are predicted, in the file's unit: users x items."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        if config["cold_rating"] != "mean":
            return np.full(self.R.shape, 3.0)
        mu, b_u, b_i = self.biases()
        return mu + b_u[:, None] + b_i

    def predictions(self):
        """The blended predictions, clipped, and by the cold rule where user or item is cold, in the
        file's unit: users x items."""
        members = self.raw()
        weights = WEIGHTS if len(members) > 1 else (1,)
        blended = sum(w * np.clip(x, 1, 5) for w, x in zip(weights, members, strict=True))
        cold = (self.M.sum(1) == 0)[:, None] | (self.M.sum(0) == 0)
        final = plain.to_file(np.clip(blended, 1, 5), self.scale)
        return np.where(cold, self.cold_ratings(), final)

    def best(self, user, n):
        """The indices of the best items of a user (index): not known, not cold, raw ones first."""
        raw = sum(w * x[user] for w, x in zip(WEIGHTS, self.raw(), strict=False))
        shown, left = self.predictions()[user], ~self.known[user] & (self.M.sum(0) > 0)
        order = sorted(np.flatnonzero(left), key=lambda i: (-shown[i], -raw[i]))
        return order[:n]


def load(saved, name):
    return tf.train.load_variable(saved, f"{name}/.ATTRIBUTES/VARIABLE_VALUE").astype(np.float64)


def made_up_triples():
    """40 users x 30 items; ids with gaps; users and items of one rating, of which some are cold."""
    rng = np.random.default_rng(5)
    pairs = rng.permutation(40 * 30)[:600]
    triples = [(7 * (p // 30) + 1, 3 * (p % 30) + 2, int(rng.integers(1, 6))) for p in pairs]
    triples += [(1000 + i, 2 + 3 * i, 4) for i in range(10)]
    triples += [(1 + 7 * i, 500 + i, 2) for i in range(10)]
    return triples


def make_run(tmp_path, config=CONFIG, triples=None, name="run"):
    """A run folder of random models, and its ratings in a folder of their own."""
    data, folder = tmp_path / "data", tmp_path / name
    data.mkdir(exist_ok=True)
    (data / "ratings.dat").write_bytes(rating_lines(triples or made_up_triples()))
    ratings = read_ml_1m(data / "ratings.dat")
    ratings = replace(ratings, scale=config.rating_scale or (1.0, 5.0))
    train = split_ratings(ratings, config.train_ratio, config.split_seed).train
    folder.mkdir()
    record = config.to_dict() | {
        "fingerprint": ratings.fingerprint, "rating_scale": list(ratings.scale)
    }
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    if not config.members:
        save_random(folder / "parameters", config, train, config.orientation, 1)
    else:
        save_random(folder / "parameters_1", config, train, "item", 1)
        save_random(folder / "parameters_2", config, train, "user", 2)
        with open(folder / "members.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["weight", "orientation"])
            writer.writerows(zip(WEIGHTS, ("item", "user"), strict=True))
    M, R, known = (np.zeros((ratings.num_users, ratings.num_items)) for _ in range(3))
    R[train.indices, train.rows] = train.values
    M[train.indices, train.rows] = 1
    known[ratings.users, ratings.items] = 1
    return Made(folder, data, ratings, R, M, known.astype(bool))


def as_own(made, path, name):
    """The same run, but of a file of one's own: `path`, which is written."""
    folder = made.folder.with_name(name)
    shutil.copytree(made.folder, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{u},{i},{r:g}\n" for u, i, r in triples_of(made.ratings))
    path.write_text("".join(["user,item,rating\n", *lines]), encoding="utf-8")
    record = json.loads((folder / "config.json").read_text("utf-8"))
    record |= {"dataset": plain_name(path), "files": {"dataset": as_utf8(path.name)}}
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    return replace(made, folder=folder, data=path.parent)


def save_random(prefix, config, train, orientation, seed):
    """Parameters that predict around 3, with some beyond the scale."""
    shape = train.num_columns, train.num_rows
    columns, rows = shape if orientation == "item" else shape[::-1]
    values = train.distinct if config.input_encoding == "one_hot" else None
    config = replace(config, members=())
    model = AutoRec(columns, config, (1.0, 5.0), values=values, num_rows=rows)
    rng = np.random.default_rng(seed)
    for x in model.parameters:
        x.assign(rng.normal(0, 0.5, x.shape))
    if config.output_activation == "identity":
        model.b.assign_add(tf.fill(model.b.shape, 3.0))
    model.save(prefix)
