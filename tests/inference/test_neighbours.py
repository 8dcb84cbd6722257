"""Nearest neighbours against a loop over all pairs."""
import numpy as np
import pytest

from inference.neighbours import nearest_distances, neighbours
from workflow import files


@pytest.mark.parametrize("correlation", [False, True])
def test_neighbours_against_a_twin(correlation):
    rng = np.random.default_rng(3)
    among, vectors = rng.uniform(1, 2, (30, 8)), rng.uniform(1, 2, (5, 8))
    for queries in (vectors, among):
        twin = np.array([[1 - np.corrcoef(a, b)[0, 1] if correlation else np.linalg.norm(a - b) for b in among]
                         for a in queries])
        distance, rows = neighbours(queries, among, 3, correlation)
        np.testing.assert_array_equal(rows, np.argsort(twin, axis=1)[:, :3])
        np.testing.assert_allclose(distance, np.sort(twin, axis=1)[:, :3], atol=1e-7)


def test_nearest_distances_of_a_set_in_pieces(monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 7)
    rng = np.random.default_rng(4)
    vectors, among = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(30, 3)).astype(np.float32)
    twin = np.sqrt(((vectors[:, None] - among) ** 2).sum(axis=2)).min(axis=1)
    np.testing.assert_allclose(nearest_distances(vectors, among), twin, rtol=1e-5)
