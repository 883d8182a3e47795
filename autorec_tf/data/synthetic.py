"""Synthetic ratings of MovieLens-1M's size, for a machine without the data and without a network.

They have a few latent factors, user and item biases, and noise. Popularity and activity follow
power laws, and the counts of the five ratings are MovieLens-1M's. An RMSE on them is not comparable
with one on MovieLens.
"""

import numpy as np

from autorec_tf.system.random_streams import random_stream

ML_1M_USERS, ML_1M_ITEMS = 6_040, 3_706
ML_1M_COUNTS = (56_174, 107_557, 261_197, 348_971, 226_310)  # of ratings 1, 2, 3, 4, 5
FACTORS = 8
LEAST_ACTIVITY = 20  # ratings of the least active user, as in MovieLens-1M
BLOCK = 256  # users drawn at a time: the largest array is BLOCK x items


def synthetic_ratings(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users 1..6040, items 1..3706 and ratings 1..5 of 1,000,209 distinct pairs, by user.

    All three are int64 [ratings]. Every user and every item occurs. The same seed gives the same
    ratings.
    """
    rng = random_stream(seed, "synthetic")
    num_ratings = sum(ML_1M_COUNTS)
    weight = rng.permutation((np.arange(ML_1M_USERS) + 120.0) ** -1.0)
    spare = num_ratings - LEAST_ACTIVITY * ML_1M_USERS
    activity = LEAST_ACTIVITY + np.floor(weight / weight.sum() * spare).astype(np.int64)
    activity[: num_ratings - activity.sum()] += 1  # the remainder of rounding, one each
    users = np.repeat(np.arange(ML_1M_USERS), activity)
    items = draw_items(rng, activity)
    taste = rng.normal(size=(ML_1M_USERS, FACTORS))
    style = rng.normal(size=(ML_1M_ITEMS, FACTORS)) / np.sqrt(FACTORS)
    score = (
        np.einsum("rf,rf->r", taste[users], style[items]) * 0.5
        + rng.normal(0, 0.45, ML_1M_USERS)[users]
        + rng.normal(0, 0.55, ML_1M_ITEMS)[items]
        + rng.normal(0, 0.8, num_ratings)
    )
    values = np.empty(num_ratings, np.int64)
    values[np.argsort(score, kind="stable")] = np.repeat(np.arange(1, 6), ML_1M_COUNTS)
    return users + 1, items + 1, values


def draw_items(rng: np.random.Generator, activity: np.ndarray) -> np.ndarray:
    """Return distinct items for each user, ascending, popular ones more often: int64 [ratings]."""
    log_popularity = rng.permutation(-2.0 * np.log(np.arange(ML_1M_ITEMS) + 300.0))
    # Each item is assigned to one user first, so that every item occurs.
    first_user = rng.integers(ML_1M_USERS, size=ML_1M_ITEMS)
    drawn = []
    for start in range(0, ML_1M_USERS, BLOCK):
        count = activity[start : start + BLOCK]
        # The n largest of log-weight + Gumbel noise are a weighted draw without replacement.
        keys = log_popularity + rng.gumbel(size=(len(count), ML_1M_ITEMS))
        given = np.flatnonzero((first_user >= start) & (first_user < start + len(count)))
        keys[first_user[given] - start, given] = np.inf
        drawn += [np.sort(np.argpartition(row, n - 1)[:n])
                  for row, n in zip(-keys, count, strict=True)]
    return np.concatenate(drawn)
