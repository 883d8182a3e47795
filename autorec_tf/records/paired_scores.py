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
from autorec_tf.system.files import atomic_write
from autorec_tf.system.npz_archive import Archive, Rule

VERSION = 1
RULES = {
    "test": Rule("U"), "errors": Rule("f4", ("test ratings",)), "relevant": Rule("f8"),
    "users": Rule("i8", ("users",)), "ndcg": Rule("f4", ("users",)),
    "recall": Rule("f4", ("users",)),
}
REMEDY = "Remove it to compare only summaries."
SAME_RMSE = 1e-3  # relative difference that rounding can cause


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


def read_paired_scores(path: Path, rmse: float | None = None) -> PairedScores | None:
    """Return the scores in the file `path`, or None without such a file, as in runs of earlier
    versions. `rmse`: the test RMSE of the run, if it is known. Raise UserError if the file is
    damaged, or has another RMSE."""
    if not path.exists():
        return None
    with Archive(path, REMEDY) as archive:
        version = int(archive.read({"version": Rule("i8")})["version"])
        if version != VERSION:
            raise archive.refusal(f"has the version {version}, and only {VERSION} can be read")
        content = archive.read(RULES)
        errors = content["errors"].astype(np.float64)
        found = float(np.sqrt(np.mean(errors**2))) if len(errors) else None
        if rmse is not None and found is not None and abs(found - rmse) > SAME_RMSE * abs(rmse):
            raise archive.refusal(f"belongs to another run: its RMSE is {found:.4f}, but that of "
                                  f"the run is {rmse:.4f}")
    arrays = {name: content[name] for name in ("errors", "users", "ndcg", "recall")}
    return PairedScores(str(content["test"]), relevant=float(content["relevant"]), **arrays)
