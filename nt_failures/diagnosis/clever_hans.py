"""Claim: the Clever Hans cheat. Put on a wrong arm, the model goes on along it instead of towards the goal."""

from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.observations import Observations


def clever_hans(observed: Observations, seed: int = 0) -> dict[str, Any]:
    """Reveal the first node of a WRONG arm and watch what the model does next.

    At each later position it can follow the wrong arm, jump to the node of the right arm at that position, or break
    (anything else). Measured `forced` (the whole wrong arm is revealed up to there) and `free` (only the first two
    symbols are given, then it decodes on its own). The symbol generated last is apart: it is a copy from the prompt.

    Following does not prove failure: models that have solved the task do it too. Read it with the decision accuracy.

    Args:
        observed: rows with at least one wrong arm, and answers of at least 4 symbols.
        seed: which wrong arm each instance is put on.

    Returns:
        `n`; `forced`, `free`: {fate: {position: share}} for the positions between the decision and the last;
        `follow_rate`, `jump_rate`, `break_rate`: shares of free continuations that do so at all of these positions
        (`break_rate`: neither), and `follow_interval`; `last_position`: {`forced`, `free`: {`right_copy`, `wrong_arm`,
        `other`}}.

    Raises:
        ValueError: the task has no wrong arms, or its answers are too short.
    """
    predictor, task, columns, answers = observed.predictor, observed.task, observed.columns, observed.answers
    if task.answer_length < 4:
        raise ValueError(
            f"an answer of {task.answer_length} symbols has no position between the decision and the last; the "
            "cheat shows from 4 on (path_length >= 4)."
        )
    wrong = task.detours(columns, np.random.default_rng(seed))
    last = task.answer_length if predictor.order == "forward" else 1
    if predictor.order == "reversed":  # the goal comes first and is given; the detour starts behind it
        wrong = np.concatenate([wrong[:, :-1], answers[:, -1:]], axis=1)
    continued = predictor.continued(columns, wrong, 2)  # first: what decodes all at once refuses it
    given = {"forced": predictor.forced(columns, wrong), "free": continued}
    middle = range(3, task.answer_length) if predictor.order == "forward" else range(task.answer_length - 2, 1, -1)
    fates = {way: _fates(predicted, wrong, answers) for way, predicted in given.items()}
    rates = {fate: fates["free"][fate][:, [k - 1 for k in middle]].all(axis=1) for fate in ("follow", "jump")}
    followed = int(rates["follow"].sum())
    return {
        "n": len(answers),
        **{
            way: {fate: {k: float(shares[:, k - 1].mean()) for k in middle} for fate, shares in found.items()}
            for way, found in fates.items()
        },
        "follow_rate": followed / len(answers),
        "follow_interval": list(wilson(followed, len(answers))),
        "jump_rate": float(rates["jump"].mean()),
        "break_rate": float(1 - (rates["follow"] | rates["jump"]).mean()),
        "last_position": {
            way: _last(predicted[:, last - 1], answers[:, last - 1], wrong[:, last - 1])
            for way, predicted in given.items()
        },
    }


def _fates(predicted: np.ndarray, wrong: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    follow, jump = predicted == wrong, predicted == answers
    return {"follow": follow, "jump": jump & ~follow, "break": ~follow & ~jump}


def _last(predicted: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    copy, along = predicted == right, (predicted == wrong) & (wrong != right)
    shares = {"right_copy": copy, "wrong_arm": along, "other": ~copy & ~along}
    return {name: float(share.mean()) for name, share in shares.items()}
