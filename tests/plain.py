"""Final predictions, biases and units in plain float64: what the program is held against."""

import numpy as np


def final_predictions(predictions, cold, scale=(1.0, 5.0), cold_ratings=3.0):
    """Raw predictions [pairs] clipped to the scale, and `cold_ratings` where `cold` [pairs]."""
    return np.where(cold, cold_ratings, np.clip(np.asarray(predictions, np.float64), *scale))


def rmse(error):
    return float(np.sqrt(np.mean(np.asarray(error, np.float64) ** 2)))


def biases(triples, num_users, num_items):
    """The mean, and what each user and each item is beyond it, from (user, item, rating) index
    triples: ten rounds of the two equations, one sum at a time."""
    triples = [(int(u), int(i), float(r)) for u, i, r in triples]
    mu = sum(r for _, _, r in triples) / len(triples)
    of_user, of_item = ([[] for _ in range(n)] for n in (num_users, num_items))
    for u, i, r in triples:
        of_user[u].append((i, r))
        of_item[i].append((u, r))
    b_u, b_i = [0.0] * num_users, [0.0] * num_items
    for _ in range(10):
        for i, rated in enumerate(of_item):
            b_i[i] = sum(r - mu - b_u[u] for u, r in rated) / (10 + len(rated))
        for u, rated in enumerate(of_user):
            b_u[u] = sum(r - mu - b_i[i] for i, r in rated) / (15 + len(rated))
    return mu, np.array(b_u), np.array(b_i)


def by_user(matrix, orientation):
    """User, item and rating of each rating in a matrix whose rows are what `orientation` says."""
    pairs = (matrix.rows, matrix.indices) if orientation == "user" else (
        matrix.indices, matrix.rows)
    return (*pairs, matrix.values.astype(np.float64))


def to_file(ratings, scale):
    """Ratings of 1..5 on `scale`."""
    low, high = scale
    return low + (np.asarray(ratings, np.float64) - 1) / 4 * (high - low)
