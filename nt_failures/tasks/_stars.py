"""Stars of arms through one centre: drawn for many rows at once, and read back.

An arm has a stem of nodes before the centre, maybe none, and others behind it. Shapes: n rows; D arms; E edges; L nodes
of the longest arm.
"""

from collections.abc import Sequence

import numpy as np

from nt_failures.tasks._graphs import way_back

Ends = tuple[int, int]
"""The least and the largest size of a range."""


def star(
    rng: np.random.Generator, nodes: np.ndarray, stems: np.ndarray, behind: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Arms through one centre: their edges (n, E, 2) in random order, and the nodes of the first arm (n, L).

    Args:
        rng: draws the order.
        nodes: (1 + D * (L - 1), n) labels, the first one the centre's; those of nodes that an arm lacks are not used.
        stems, behind: (D, n) how many nodes an arm has before the centre, and behind it.
    """
    (degree, n), count = stems.shape, len(nodes) - 1  # never -1 in a shape: there may be no rows
    slots, centre = nodes[1:].reshape(degree, count // degree, n), nodes[0]
    place = np.arange(slots.shape[1])[:, None]
    stem, size = stems[:, None], (stems + behind)[:, None]
    before, after = np.roll(slots, 1, axis=1), np.roll(slots, -1, axis=1)  # what comes round is not looked at
    tails = np.where(place < stem, slots, np.where(place == stem, centre, before))
    heads = np.where(place >= stem, slots, np.where(place == stem - 1, centre, after))
    used = (place < size).reshape(count, n).T
    keys = np.where(used, rng.random(used.shape), 2.0)
    edges = np.stack([tails, heads], axis=-1).reshape(count, n, 2).transpose(1, 0, 2)
    edges = np.take_along_axis(edges, np.argsort(keys, axis=1)[:, :, None], axis=1)
    edges[np.arange(count) >= used.sum(axis=1)[:, None]] = -1
    step = np.arange(slots.shape[1] + 1)[:, None]
    way = np.concatenate([slots[0], slots[0, -1:]])
    way = np.where(step > stems[0], np.roll(way, 1, axis=0), np.where(step == stems[0], centre, way))
    return edges, np.where(step <= size[0], way, -1).T.astype(np.int32)


def way_through(
    edges: Sequence[Ends], source: int, goal: int, degree: Ends, path_length: Ends, behind: int
) -> list[int] | None:
    """The path from the source to the goal in a star of these sizes; None for another graph."""
    tails, heads = ([edge[side] for edge in edges] for side in (0, 1))
    crossings, (least, most) = {node for node in tails if tails.count(node) > 1}, path_length
    if len(crossings) != 1 or len(edges) > degree[1] * (most - 1):
        return None
    (centre,) = crossings
    before = {head: tail for tail, head in edges if head != centre}
    after = {tail: head for tail, head in edges if tail != centre}
    arms = {leaf: way_back(before, leaf, most) for leaf in {*heads} - {*tails}}
    arms = {leaf: arm for leaf, arm in arms.items() if arm[0] == centre}
    stems = {start: way_back(after, start, most)[::-1] for start in {*tails} - {*heads} - {centre}}
    stems = {start: stem for start, stem in stems.items() if stem[-1] == centre}
    sizes = [len(way) - 1 for way in (*arms.values(), *stems.values())]
    if sum(sizes) != len(edges) or not degree[0] <= len(arms) <= degree[1] or len(stems) > len(arms):
        return None
    if min(sizes[: len(arms)]) < behind or max(sizes) >= most:
        return None
    stem = [] if source == centre else stems.get(source, [centre] * most)[:-1]
    way = stem + arms.get(goal, [])
    return way if least <= len(way) <= most and way[-1] == goal else None


def joined(ends: Sequence[int]) -> list[int]:
    """The nodes of a path that is written as its edges; the end of an edge that does not hang together stays."""
    inner = range(2, len(ends) - 1, 2)
    return [node for i, node in enumerate(ends) if i not in inner or node != ends[i - 1]]
