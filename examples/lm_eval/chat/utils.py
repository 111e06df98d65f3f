"""Rows and judge of the task for chat models: those of nt_failures, which has to be installed."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets

import nt_failures  # teaches load_dataset the names of its tasks
from nt_failures.tasks.chat import read_tagged


def rows(name: str = "", config: str = "", **metadata: Any) -> dict[str, datasets.Dataset]:
    """All test rows of a named config as questions; nothing is downloaded."""
    del metadata  # what the command line says of the model
    if not name or not config:
        raise ValueError("""no rows are named; add --metadata '{"name": "pathstar", "config": "deg2-path5-nodes50"}'""")
    return {"test": datasets.load_dataset(f"nt_failures/{name}", config, prompt_style="chat", num_train=0)["test"]}


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """`exact`: the answer is right, by the judge of the row's task; `tagged`: there is one at all."""
    columns = {name: [value] for name, value in doc.items() if name not in ("prompt", "completion")}
    (exact,) = nt_failures.reward_exact_answer([doc["prompt"]], results, **columns)
    return {"exact": exact, "tagged": float(bool(read_tagged(results[0])))}
