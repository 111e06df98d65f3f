"""Hashes of rows, for many rows at once."""

import numpy as np


def mix64(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al., 2014, OOPSLA): every input bit moves every output bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def hash_edges(edges: np.ndarray) -> np.ndarray:
    """uint64 for the edges of each row, (n, E, 2), in whatever order they stand."""
    edges = edges.astype(np.uint64)
    return mix64((edges[..., 0] << np.uint64(32)) | edges[..., 1]).sum(axis=1, dtype=np.uint64)


def hash_rows(*columns: np.ndarray) -> np.ndarray:
    """uint64 for each row of some columns of whole numbers, (n, ...): the entries in their order decide.

    Example:
        >>> import numpy as np
        >>> a, b, c = hash_rows(np.array([[1, 2], [2, 1], [1, 2]]))
        >>> bool(a == c), bool(a == b)
        (True, False)
    """
    flat = [np.asarray(column).astype(np.int64).reshape(len(column), -1) for column in columns]
    hashed = np.zeros(len(flat[0]), dtype=np.uint64)
    for entries in np.concatenate(flat, axis=1).astype(np.uint64).T:
        hashed = mix64(hashed ^ entries)
    return hashed
