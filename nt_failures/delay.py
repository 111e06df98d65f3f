"""The map of delays: when each run solved its graph, or how long it was watched in vain, and how that grows with the graph."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from nt_failures import study

FACTORS = ("path_length", "degree", "labels")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the map."""

    graph: str
    objective: str
    optimizer: str
    seed: int
    path_length: int
    degree: int
    labels: int
    before: int
    """training steps at the last evaluation at which it was not solved; 0 if there was none"""
    solved_at: float
    """training steps at the evaluation from which it was solved; infinite for a run that was censored at `before`"""
    flops_per_step: float

    @property
    def solved(self) -> bool:
        """Whether it solved the task within its budget."""
        return math.isfinite(self.solved_at)


def observe(run: Mapping[str, Any], graph: str, objective: str, optimizer: str) -> Run:
    """What a line of results.jsonl says, under the names of its cell of the map."""
    curve = run["learning_curve"]
    solved_at = study.steps_to_solve(curve, metric=study.measure(run))
    steps = [int(entry["step"]) for entry in curve]
    task = run["arguments"]["task"]
    return Run(
        *(graph, objective, optimizer, run["seed"], task["path_length"], task["degree"], task["num_nodes"]),
        before=max((step for step in steps if solved_at is None or step < solved_at), default=0),
        solved_at=math.inf if solved_at is None else solved_at,
        flops_per_step=run["flops"] / run["steps"],
    )
