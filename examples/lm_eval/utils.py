"""Rows and judge of the path-star tasks of this folder: those of nt_failures, which has to be installed."""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np

import nt_failures  # noqa: F401 - teaches load_dataset the name nt_failures/pathstar
from nt_failures.evaluation.rewards import reward_valid_prefix
from nt_failures.tasks import PathStar

logger = logging.getLogger(__name__)


def rows(config: str, **metadata: Any) -> dict[str, datasets.Dataset]:
    """All test rows of a named config, and a hundred training rows for `--num_fewshot`; nothing is downloaded."""
    del metadata  # what the command line says of the model
    return datasets.load_dataset("nt_failures/pathstar", config, num_train=100)


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Scores of one answer, from 0 to 1, by `PathStar.judge` on its first path_length nodes.

    What stands behind them does not count, as in the library's own evaluations: the task's targets carry no end token,
    so a model may go on until it is cut. Those of graphs of several sizes do, and a model has to stop.
    """
    path, edges = ([one for one in doc[name] if np.min(one) >= 0] for name in ("path", "edges"))  # -1: a smaller graph
    length = len(path)
    task = PathStar(len(edges) // (length - 1), length, num_nodes=2**16)
    answer = task.read_answer(results[0])
    if not doc["completion"].endswith(task.END):
        answer = answer[:length]
        if len(answer) < length:
            _warn_once(length)
    columns = {"edges": [edges], "source": [doc["source"]], "goal": [doc["goal"]], "path": [path]}
    judged = task.judge({name: np.array(column) for name, column in columns.items()}, [answer])
    scores = {name: float(judged[name][0]) for name in ("exact", "decision", "valid_path")}
    (prefix,) = reward_valid_prefix([doc["prompt"]], [results[0]])
    return {**scores, "valid_prefix": prefix, "complete": float(len(answer) >= length)}


@functools.cache
def _warn_once(length: int) -> None:
    logger.warning(
        "there are answers of fewer than %d nodes. If they are cut, because the tokenizer spends several tokens on a "
        "node, add --gen_kwargs max_gen_toks=%d",
        *(length, 6 * length),
    )
