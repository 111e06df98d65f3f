"""Rows and judge of the tasks of this folder: those of nt_failures, which has to be installed."""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np

import nt_failures  # noqa: F401 - teaches load_dataset the names of its tasks
from nt_failures.evaluation.rewards import task_of, valid_nodes
from nt_failures.tasks import described

logger = logging.getLogger(__name__)


def rows(name: str, config: str, **metadata: Any) -> dict[str, datasets.Dataset]:
    """All test rows of a named config, and a hundred training rows for `--num_fewshot`; nothing is downloaded.

    A row has its task in the column `task`, by which it is judged.
    """
    del metadata  # what the command line says of the model
    found = datasets.load_dataset(f"nt_failures/{name}", config, num_train=100)
    builder = datasets.load_dataset_builder(f"nt_failures/{name}", config)
    size = described(builder.config.task)
    return {split: part.add_column("task", [size] * len(part)) for split, part in found.items()}


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Scores of one answer, from 0 to 1, by `Task.judge`; those alone that the task has, `decision` if the row has one.

    Where all answers have one length, what stands behind it does not count, as in the library's own evaluations: these
    targets carry no end token, so a model may go on until it is cut. The others do, and a model has to stop.
    """
    task, names = task_of(doc["task"])
    columns = {name: np.array([doc[name]]) for name in names}
    answer, length = task.read_answer(results[0]), int(task.lengths(columns)[0])
    if task.END not in task.symbols:
        answer = answer[:length]
    if len(answer) < length and task.END not in results[0].split():
        _warn_once(task.answer_length)
    judged, (place,) = task.judge(columns, [answer]), task.decisions(columns, "forward")
    scores = {name: float(judged[name][0]) for name in ("exact", "valid_path", "unseen") if name in judged}
    if "valid_path" in judged:
        scores["valid_prefix"] = min(valid_nodes(doc, answer) / length, 1.0)  # a wrong arm may be longer
    if place:
        scores["decision"] = float(judged["correct"][0, place - 1])
    return {**scores, "complete": float(len(answer) >= length)}


@functools.cache
def _warn_once(length: int) -> None:
    logger.warning(
        "there are answers with fewer symbols than the right one. If they are cut, because the tokenizer spends "
        "several tokens on a symbol, add --gen_kwargs max_gen_toks=%d",
        6 * length,
    )
