"""The scores of a run for each test rating and each ranked user: `test_scores.npz`.

compare.py reads them to compare runs on the same test ratings, pair by pair. The file contains no
ratings, only errors:

    version       1
    test          SHA-256 of the fingerprint of all ratings and of the test ratings
    errors        float32 [test ratings], absolute errors on the file's scale, by item, then by user
    relevant      float64, the lowest rating of a relevant item
    users         int64 [users], the ranked users, ascending
    ndcg, recall  float32 [users], NDCG@10 and Recall@10
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from autorec_tf.data.ratings import Split
from autorec_tf.evaluation.evaluate import Evaluation
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import atomic_write

VERSION = 1


@dataclass(frozen=True, eq=False)
class PairedScores:
    """The content of a file; see above."""

    test: str
    errors: np.ndarray
    relevant: float
    users: np.ndarray
    ndcg: np.ndarray
    recall: np.ndarray


def paired_scores(evaluation: Evaluation, split: Split, fingerprint: str) -> PairedScores:
    """Return the scores in `evaluation` of the test ratings of `split`. `fingerprint`: of all
    ratings."""
    test = split.test if split.orientation == "item" else split.test.transposed()
    digest = hashlib.sha256(fingerprint.encode())
    for array, dtype in ((test.indptr, "<i8"), (test.indices, "<i4"), (test.values, "<f4")):
        digest.update(np.ascontiguousarray(array, dtype=dtype).data)
    ndcg, recall = evaluation.ranking.of_users.astype(np.float32)
    return PairedScores(digest.hexdigest(), evaluation.errors, evaluation.relevant,
                        evaluation.ranking.users, ndcg, recall)


def write_paired_scores(path: Path, scores: PairedScores) -> None:
    """Write `scores` to the file `path`."""
    with atomic_write(path) as unfinished, open(unfinished, "wb") as file:
        np.savez(file, allow_pickle=False, version=VERSION, **asdict(scores))


def read_paired_scores(path: Path) -> PairedScores | None:
    """Return the scores in the file `path`, or None without such a file, as in runs of earlier
    versions. Raise UserError if it is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["version"]) != VERSION:
                raise ValueError(f"its version is {file['version']}")
            arrays = {name: file[name] for name in ("errors", "users", "ndcg", "recall")}
            scores = PairedScores(str(file["test"]), relevant=float(file["relevant"]), **arrays)
        if any(array.ndim != 1 for array in arrays.values()) or not (
            len(scores.users) == len(scores.ndcg) == len(scores.recall)
        ):
            raise ValueError("its arrays do not fit each other")
    except Exception as error:  # zipfile and NumPy raise any type for damaged archives
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is damaged ({reason}). Remove it to compare only "
                        "summaries.") from error
    return scores
