"""A model that knows all of train by heart, and cannot plan, is at chance on held-out rows."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from nt_failures.data.builder import PathStarBuilder
from nt_failures.tasks.path_star import PathStar

SMALL = [(2, 3, 7), (2, 4, 10), (3, 3, 10), (2, 5, 10)]


def first_nodes(columns):
    """(n, D): the nodes behind the source, in their order."""
    edges, source = columns["edges"], columns["source"]
    first = edges[:, :, 0] == source[:, None]
    return np.sort(edges[:, :, 1][first].reshape(len(source), -1), axis=1)


def star(columns):
    edges = columns["edges"].astype(np.int64)
    return np.column_stack([np.sort(edges[:, :, 0] * 2**20 + edges[:, :, 1], axis=1), columns["source"]])


REMEMBERED = {
    "the star, not the goal": star,
    "the first nodes and the goal": lambda c: np.column_stack([first_nodes(c), c["goal"]]),
    "source, first nodes and goal": lambda c: np.column_stack([first_nodes(c), c["source"], c["goal"]]),
    "the labels that occur": lambda c: np.sort(c["edges"].reshape(len(c["goal"]), -1), axis=1),
    "the first edge shown": lambda c: c["edges"][:, 0],
    "the edge to the goal": lambda c: np.column_stack([c["edges"][c["edges"][:, :, 1] == c["goal"][:, None]]]),
}
"""What a memoriser looks its answer up by: all of a row but the whole way back from the goal."""


def rows(task, split, count):
    blocks = [task.block(0, split, index) for index in range(-(-count // 4096))]
    return {name: np.concatenate([block[name] for block in blocks])[:count] for name in blocks[0]}


def memorised(task, key, num_train, num_test):
    """Accuracy at the decision of who answers with the first step that was most often right for the same key; sigma."""
    train, test = rows(task, "train", num_train), rows(task, "test", num_test)
    votes = defaultdict(Counter)
    for seen, step in zip(map(bytes, key(train).astype(np.int64)), train["path"][:, 1].tolist(), strict=True):
        votes[seen][step] += 1
    rng = np.random.default_rng(0)
    right = []
    for seen, steps, step in zip(
        map(bytes, key(test).astype(np.int64)), first_nodes(test).tolist(), test["path"][:, 1].tolist(), strict=True
    ):
        known = [votes[seen][node] for node in steps]
        best = [node for node, count in zip(steps, known, strict=True) if count == max(known)]
        right.append(best[rng.integers(len(best))] == step)
    _, unit = np.unique(task.split_hash(test), return_inverse=True)
    sums = np.bincount(unit, weights=np.array(right) - task.chance)
    return np.mean(right), np.sqrt((sums**2).sum()) / num_test


# In graphs of three nodes an arm, the edge to the goal is the whole way back.
CASES = [(size, name) for size in SMALL for name in REMEMBERED if size[1] > 3 or name != "the edge to the goal"]


@pytest.mark.parametrize("num_train", [1000, 40_000], ids=["once", "many times"])
@pytest.mark.parametrize(("size", "remembered"), CASES, ids=str)
def test_memory_of_train_is_at_chance_held_out(size, remembered, num_train):
    """Catches: splits by the graph and its goal (10 % instead of 50 %), or by the graph alone (21 % on G(2,3)).

    There, that the held-out graph was left out of train tells which first step the others favour.
    """
    task = PathStar(*size)
    share, sigma = memorised(task, REMEMBERED[remembered], num_train, 8192)
    assert abs(share - task.chance) < 4 * sigma, (share, sigma)
    assert sigma < 0.05


NAMED = [config for config in PathStarBuilder.BUILDER_CONFIGS if config.task.alike and config.task.path_length > 2]


@pytest.mark.parametrize("config", NAMED, ids=lambda config: config.name)
def test_named_sizes_do_not_leak(config):
    """Catches: a named size whose splits share stars. G(2,2) has nothing to decide; test_ranges.py has `mixed`."""
    task = config.task
    for key in (star, REMEMBERED["the first nodes and the goal"]):
        share, sigma = memorised(task, key, 8192, 4096)
        assert abs(share - task.chance) < 4 * sigma


def test_stars_that_begin_alike_are_in_one_split():
    """Catches: a hash that sees the goal, the order of the edges, or which leaf belongs to which arm."""
    task = PathStar(2, 3, 7)
    graphs = ["0,1|1,2|0,3|3,4", "3,4|0,1|0,3|1,2", "0,1|1,4|0,3|3,2"]  # the first two are one, in another order
    rows = [task.parse(f"{edges}/0,{goal}=") for edges in graphs for goal in (2, 4)]
    same = {name: np.array([row[name] for row in rows]) for name in ("edges", "source", "goal")}
    assert len({*task.split_hash(same).tolist()}) == 1
    assert len({*task.instance_hash(same).tolist()}) == 4
    rows = [task.parse(f"{edges}=") for edges in ("0,1|1,2|0,4|4,3/0,2", "1,0|0,2|1,3|3,4/1,2", "0,1|1,2|0,3|3,5/0,2")]
    other = {name: np.array([row[name] for row in rows]) for name in ("edges", "source", "goal")}
    assert len({*task.split_hash(other).tolist(), *task.split_hash(same).tolist()}) == 4
