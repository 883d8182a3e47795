"""Similar items, against cosines in NumPy in float64, one pair at a time."""

import numpy as np
import pytest

from autorec_tf.evaluation import similar_items
from autorec_tf.evaluation.similar_items import PopularItem, nearest, popular_items

NUM_ITEMS = 23
TRAINED = np.arange(NUM_ITEMS) % 6 != 5


def embeddings(seed):
    return np.random.default_rng(seed).normal(2, 1, (NUM_ITEMS, 4)).astype(np.float32)


def cosine(vectors, one, other):
    centred = vectors.astype(np.float64) - vectors[TRAINED].mean(0, dtype=np.float64)
    a, b = centred[one], centred[other]
    return a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)


def test_the_nearest_are_those_of_the_highest_cosine_less_the_mean_over_trained_items():
    vectors, chosen = embeddings(1), np.array([4, 0, 7])
    for item, (items, similarity) in zip(
        chosen, nearest([(1.0, vectors)], chosen, TRAINED, NUM_ITEMS), strict=True
    ):
        others = [i for i in range(NUM_ITEMS) if TRAINED[i] and i != item]
        expected = sorted(others, key=lambda i: -cosine(vectors, item, i))
        assert list(items) == expected
        np.testing.assert_allclose(
            similarity, [cosine(vectors, item, i) for i in expected], atol=1e-6
        )


def test_a_blends_similarity_is_the_mean_by_the_weights():
    one, other = embeddings(1), embeddings(2)
    ((items, similarity),) = nearest([(0.6, one), (0.2, other)], np.array([3]), TRAINED, 5)
    expected = [0.75 * cosine(one, 3, i) + 0.25 * cosine(other, 3, i) for i in items]
    np.testing.assert_allclose(similarity, expected, atol=1e-6)
    assert sorted(similarity, reverse=True) == list(similarity) and len(items) == 5


def test_similarity_is_the_same_by_blocks_and_for_several_items_at_once(monkeypatch):
    item_embeddings, chosen = [(1.0, embeddings(1))], np.array([4, 0, 7])
    alone = [nearest(item_embeddings, chosen[[k]], TRAINED, 5)[0] for k in range(3)]
    monkeypatch.setattr(similar_items, "BLOCK_ITEMS", 7)
    at_once = nearest(item_embeddings, chosen, TRAINED, 5)
    for (items, similarity), (same_items, same_similarity) in zip(alone, at_once, strict=True):
        assert list(items) == list(same_items)
        np.testing.assert_allclose(similarity, same_similarity, atol=1e-6)


def test_an_item_that_is_the_mean_is_like_none_and_no_nan():
    vectors = np.array([[1, 0], [-1, 0], [0, 0]], np.float32)
    ((items, similarity),) = nearest([(1.0, vectors)], np.array([2]), np.ones(3, bool), 5)
    assert list(items) == [0, 1] and list(similarity) == [0, 0]


def test_the_popular_items_are_those_with_the_most_training_ratings():
    vectors = np.array([[1, 0], [1, 0.1], [-1, 0], [9, 9]], np.float32)
    item_ratings = np.array([5, 2, 7, 0])  # of the last one, nothing is known
    popular = popular_items(item_ratings, [(1.0, vectors), (0.0, vectors[::-1])])
    assert [(item.index, item.num_ratings) for item in popular] == [(2, 7), (0, 5), (1, 2)]
    assert [[index for index, _ in item.similar] for item in popular] == [[0, 1], [1, 2], [0, 2]]
    centred = vectors[:3] - vectors[:3].mean(0)
    expected = centred[0] @ centred[1] / np.linalg.norm(centred[0]) / np.linalg.norm(centred[1])
    assert popular[1].similar[0] == (1, pytest.approx(expected, abs=1e-6))


def test_popular_items_and_their_similar_ones_are_as_many_as_asked_for():
    item_ratings = np.where(TRAINED, 3, 0)
    popular = popular_items(item_ratings, [(1.0, embeddings(1))], num_items=2, num_similar=3)
    assert [item.index for item in popular] == [0, 1]  # of as many ratings, the first
    assert [len(item.similar) for item in popular] == [3, 3]
    assert all(isinstance(item, PopularItem) for item in popular)


def test_models_without_weight_know_nothing_similar():
    assert popular_items(np.array([3, 4]), [(0.0, np.eye(2, dtype=np.float32))]) == []
