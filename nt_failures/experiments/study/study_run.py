"""The runs of a study as they are read: StudyRun, a line of results.jsonl, and Key, a line of diverged.jsonl."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nt_failures.diagnosis.evidence import SOLVED_AT
from nt_failures.evaluation.metrics import judged
from nt_failures.hub.run_results import RunResults
from nt_failures.objectives import find_objective


class Key(NamedTuple):
    """What a study tells its runs apart by."""

    recipe: str
    seed: int
    fingerprint: str
    """of the recipe's values and the extra flags"""


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A finished run. Its shares are in 0..1, its times in training steps."""

    key: Key
    n: int
    chance: float
    trained_positions: Sequence[int] | None
    exact: float
    """exact answers on the test, or the worst of the positions that alone were trained"""
    decision: float
    others: float | None
    """the worst position other than the decision; None where only some were trained"""
    follow_rate: float | None
    train_decision: float | None
    """the decision on training rows; None where not all of them were seen"""
    curve: Sequence[tuple[int, float]]
    """step and validation accuracy, judged as `exact`, of the evaluations during training"""
    steps: int
    flops: float | None
    verdict: str
    task: Mapping[str, Any]

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "StudyRun":
        """The run of a line; ValueError unless it holds all that a study reads, each of its kind."""
        key = read_key(line)
        run = RunResults.from_json(line, "the line")
        try:
            objective = find_objective(run.arguments["objective"]["objective"], from_file=True)
            judged_by = "forced" if objective.decodings[0] == "autoregressive" else "free"
            shares = getattr(run.accuracies, judged_by).positions
            cheat, trained = run.diagnosis["clever_hans"], run.trained_positions
            found = cls(
                key=key,
                n=run.n,
                chance=run.chance + 0,
                trained_positions=trained,
                exact=judged(run.metrics, trained),
                decision=run.metrics["decision"] + 0,
                others=None if trained else min(v for k, v in shares.items() if k != run.decision_position),
                follow_rate=None if cheat is None else cheat["follow_rate"],
                train_decision=run.diagnosis["decision_token"].get("train_accuracy"),
                curve=[(int(point["step"]), judged(point, trained)) for point in run.learning_curve],
                steps=run.steps,
                flops=run.flops,
                verdict=run.verdict["name"],
                task=run.arguments.get("task", {}),
            )
            measured = [x for x in (found.follow_rate, found.train_decision, found.others) if x is not None]
            if not (all(0 <= x <= 1 for x in measured) and found.steps > 0 and isinstance(found.verdict, str)):
                raise ValueError(f"no run: an accuracy that is not in 0..1, no step, or no verdict in {found}")
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"no run: {error!r}") from error
        return found

    @property
    def solved(self) -> bool:
        """Whether the test says so."""
        return self.exact >= SOLVED_AT

    @property
    def solved_at(self) -> int | None:
        """Training steps until validation says so for good."""
        return steps_to_solve(self.curve)


def read_key(line: Mapping[str, Any]) -> Key:
    """Recipe, seed and fingerprint of a line; ValueError if they are not of their kinds."""
    key = [line.get(name) for name in Key._fields] if isinstance(line, Mapping) else [line]
    if [type(name) for name in key] != [str, int, str]:
        raise ValueError(f"no run: {key} must be recipe, seed and fingerprint: text, a whole number, text")
    return Key(*key)


def steps_to_solve(curve: Sequence[tuple[int, float]]) -> int | None:
    """Step of the first evaluation from which the accuracy stays at `SOLVED_AT` or above; None if it never does."""
    found = None
    for step, share in curve:
        found = (step if found is None else found) if share >= SOLVED_AT else None  # nan solves nothing
    return found
