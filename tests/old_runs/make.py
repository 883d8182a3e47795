"""What made v2/, run once, by the version of the commit that its config.json files name:

    python -m tests.old_runs.make

It stays to tell how they came about: made again by a later version, they would be no old runs. The
ratings are made up. Beside each finished run lies what it recommended, and `<run>_killed`, which
SIGKILL ended two epochs after a checkpoint. The models are those of the Python API.
"""

import json
import subprocess
from dataclasses import replace

import pandas as pd

import autorec_tf
import export
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.npz import read_npz
from autorec_tf.serving.recommender import recommend
from data_preprocessor import read_ml_1m
from tests.conftest import REPOSITORY, triples_of
from tests.program import command, environment
from tests.system.test_distribution import local_addresses, start_worker

OLD = REPOSITORY / "tests" / "old_runs"
NEW = OLD / "v2"
USER = 8
PLACES = ["--comet", "off", "--data_dir", str(OLD), "--results_dir", str(NEW)]
SMALL = "--hidden_neuron 5 --batch_size 16 --base_lr 0.02 --checkpoint_every 4 --train_epoch 16"
RUNS = {  # flags, and the epoch after which it is killed; of a blend, the epochs of all trainings
    "single": ("--preset single --lambda_value 20", 10),
    "one_hot": ("--input_encoding one_hot --leave_one_out --orientation user", 10),
    "deep": ("--hidden_neuron 6 3 6 --pretrain_epoch 2", 10),
    "rprop": ("--optimizer_method RProp --regularization plain", 10),
    "validation": ("--validation_ratio 0.1 --patience 6 --train_epoch 60", 10),
    "blend": ("--random_seed 3 --members user_one_hot single", 3 * 16 + 10),  # in its last training
    "workers": ("--distribute workers", 10),
}
MODELS = {
    "plain": dict(hidden_neuron=4, train_epoch=10, base_lr=0.02, batch_size=16),
    "blended": dict(members=("single", "user_one_hot"), hidden_neuron=4, train_epoch=10),
}
KILLING = """
import itertools, os, signal, sys
import main
from autorec_tf.records.progress import Progress
log, numbers = Progress.log, itertools.count(1)

def log_and_die(*arguments):
    log(*arguments)
    if next(numbers) == {epoch}:
        os.kill(os.getpid(), signal.SIGKILL)

Progress.log = log_and_die
sys.exit(main.main())
"""


def run(name, flags, program=None):
    """Run main.py, or `program` in its place, as one process or as two workers."""
    flags = [*SMALL.split(), *flags.split(), *PLACES, "--run_name", name]
    if "--distribute" in flags:
        addresses = local_addresses()
        processes = [
            start_worker(index, addresses, *flags, cwd=REPOSITORY, program=program)
            for index in range(2)
        ]
        for process in processes:
            process.communicate()
        return
    arguments = command(*flags)
    arguments[1:2] = ["-c", program] if program else arguments[1:2]
    subprocess.run(arguments, cwd=REPOSITORY, env=environment(PYTHONPATH=str(REPOSITORY)))


def write_recommendations(name):
    """Write what a run recommends by its parameters, if its predictions.npz says the same."""
    finished = read_run(NEW / name, str(OLD)).recommender()
    ready = replace(read_npz(NEW / name / "predictions.npz"), rated=finished.rated)
    table, same = (recommend(each, USER, 5) for each in (finished, ready))
    pd.testing.assert_frame_equal(table, same, rtol=0, atol=1e-5)
    text = table.reset_index().to_json(orient="records", indent=1)
    (NEW / f"{name}_user_{USER}.json").write_text(f"{text}\n", encoding="utf-8")


def save_model(name, settings):
    """Save a model of text ids and of a scale of its own, and what it predicts, of nobody, too."""
    triples = triples_of(read_ml_1m(OLD / "ratings.dat"))
    frame = pd.DataFrame(triples, columns=["user", "item", "rating"])
    frame = frame.assign(user="u" + frame["user"].astype(str), rating=20 * frame["rating"])
    model = autorec_tf.train(frame, **settings)
    model.save(NEW / f"{name}.npz")
    pairs = frame[["user", "item"]][:20].to_dict("list")
    pairs = {"users": [*pairs["user"], "nobody"], "items": [*pairs["item"], pairs["item"][0]]}
    content = pairs | {"predictions": model.predict(**pairs).tolist()}
    (NEW / f"{name}_predictions.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    for name, (flags, epoch) in RUNS.items():
        run(name, flags)
        run(f"{name}_killed", flags, KILLING.format(epoch=epoch))
        write_recommendations(name)
    for name, settings in MODELS.items():
        save_model(name, settings)
    export.main([str(NEW / "blend"), "--output", str(NEW / "export"), "--data_dir", str(OLD)])
    for pattern in ("*/*.png", "*/report.html", "*/.lock"):
        for path in NEW.glob(pattern):
            path.unlink()
