"""A model that knows all of train by heart, for tasks on graphs whose answers are nodes: it looks decisions up."""

from collections import Counter, defaultdict

import numpy as np

REMEMBERED = {
    "the graph, not the goal": lambda edges, first, source, goal: sorted(edges),
    "the first nodes and the goal": lambda edges, first, source, goal: [*sorted(first), goal],
    "source, first nodes and goal": lambda edges, first, source, goal: [source, *sorted(first), goal],
    "the labels that occur": lambda edges, first, source, goal: sorted({node for edge in edges for node in edge}),
    "source and goal": lambda edges, first, source, goal: [source, goal],
    "the first edge shown": lambda edges, first, source, goal: edges[0],
}
"""What a memoriser looks its answer up by: all of a row but the whole way back from the goal."""


def memorised(task, remembered, num_train, num_test):
    """How far above chance is right at the decision who takes the step that was most often right for the same key in
    train, and the standard deviation of that."""
    votes = defaultdict(Counter)
    for key, _, right in _keys(task, "train", num_train, remembered)[1]:
        votes[key][right] += 1
    rng, beyond = np.random.default_rng(0), []
    columns, found = _keys(task, "test", num_test, remembered)
    for key, steps, right in found:
        known = [votes[key][step] for step in steps]
        best = [step for step, count in zip(steps, known, strict=True) if count == max(known)]
        beyond.append((best[rng.integers(len(best))] == right) - 1 / len(steps))
    _, unit = np.unique(task.split_hash(columns), return_inverse=True)
    return np.mean(beyond), np.sqrt((np.bincount(unit, weights=beyond) ** 2).sum()) / num_test


def _keys(task, split, count, remembered):
    blocks = [task.block(0, split, index) for index in range(-(-count // 4096))]
    columns = {name: np.concatenate([block[name] for block in blocks])[:count] for name in blocks[0]}
    found = []
    decisions = task.decisions(columns, "forward").tolist()
    for edges, source, goal, path, k in zip(*(columns[name].tolist() for name in columns), decisions, strict=True):
        edges = [(tail, head) for tail, head in edges if tail >= 0]
        steps = [head for tail, head in edges if tail == path[k - 2]]
        found.append((str(REMEMBERED[remembered](edges, steps, source, goal)), steps, path[k - 1]))
    return columns, found
