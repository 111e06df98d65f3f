"""Claim: the Clever Hans cheat. Put on a wrong arm, or another detour, the model goes on along it."""

from typing import Any

import numpy as np

from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.observations import Observations
from nt_failures.evaluation.reading import in_place


def clever_hans(observed: Observations, seed: int = 0) -> dict[str, Any]:
    """Reveal a WRONG decision, such as the first node of a wrong arm, and watch what the model does next.

    At each later position at which the two differ it can follow the detour, jump to the right symbol, or break.
    Measured `forced` (the whole detour is revealed up to there) and `free` (only the symbols up to the row's decision
    are given, then it decodes on its own). The symbol generated last is apart: it is a copy from the prompt.

    Following does not prove failure: models that have solved the task do it too. Read it with the decision accuracy.

    Args:
        observed: rows that have a decision, and between it and the last a position at which a detour is wrong.
        seed: which detour each instance is put on.

    Returns:
        `n` (different problems), `rows`; `forced`, `free`: {fate: {position: share}} for the positions between the
        decision and the last; `follow_rate`, `jump_rate`, `break_rate`: shares of free continuations that do so at all
        of these positions (`break_rate`: neither), and `follow_interval`; `last_position`: {`forced`, `free`:
        {`right_copy`, `wrong_arm`, `other`}}.

    Raises:
        ValueError: the task has no detours, or no row a position between its decision and its last.

    Example:
        >>> from types import SimpleNamespace
        >>> from nt_failures.tasks import PathStar
        >>> task = PathStar(degree=2, path_length=4, num_nodes=10)
        >>> right = SimpleNamespace(order="forward", forced=lambda columns, answers: answers)  # a perfect model
        >>> right.continued = lambda columns, answers, symbols: task.answers(columns)  # wherever it was put
        >>> observed = Observations(right, task, task.block(0, "test", 0, rows=200))
        >>> found = clever_hans(observed)
        >>> found["follow_rate"], found["jump_rate"]
        (0.0, 1.0)
    """
    predictor, forward = observed.predictor, observed.predictor.order == "forward"
    rows, wrong, middle = _put_on(observed, seed)
    columns = {name: np.asarray(column)[rows] for name, column in observed.columns.items()}
    answers, lengths, decisions = observed.answers[rows], observed.task.lengths(columns), observed.decisions[rows]
    given = decisions if forward else lengths - decisions + 1
    given = int(given[0]) if (given == given[0]).all() else given
    continued = predictor.continued(columns, wrong, given)  # first: what decodes at once refuses
    continued = in_place(continued, (wrong != -1).sum(axis=1), wrong.shape[1], predictor.order)
    ways = {"forced": predictor.forced(columns, wrong)[:, : wrong.shape[1]], "free": continued}
    last = lengths if forward else np.ones_like(lengths)
    fates = {way: _fates(predicted, wrong, answers) for way, predicted in ways.items()}
    rates = {fate: (fates["free"][fate] | ~middle).all(axis=1) for fate in ("follow", "jump")}
    follow_rate, n = float(rates["follow"].mean()), observed.n(np.isin(np.arange(len(observed.answers)), rows))
    at = (np.arange(len(rows)), last - 1)
    return {
        "n": n,
        "rows": len(rows),
        **{
            way: {fate: _by_position(shown, middle, forward) for fate, shown in found.items()}
            for way, found in fates.items()
        },
        "follow_rate": follow_rate,
        "follow_interval": list(wilson(follow_rate * n, n)),
        "jump_rate": float(rates["jump"].mean()),
        "break_rate": float(1 - (rates["follow"] | rates["jump"]).mean()),
        "last_position": {way: _last(predicted[at], answers[at], wrong[at]) for way, predicted in ways.items()},
    }


def _put_on(observed: Observations, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows (k,) that have a detour and a position to follow it at, their detours and these positions, (k, L)."""
    task, forward = observed.task, observed.predictor.order == "forward"
    rows = np.flatnonzero(observed.deciding)
    columns = {name: np.asarray(column)[rows] for name, column in observed.columns.items()}
    answers, decisions = observed.answers[rows], observed.decisions[rows, None]
    wrong = task.detours(columns, np.random.default_rng(seed)) if len(rows) else answers
    place = np.arange(1, answers.shape[1] + 1)
    astray = (wrong != answers) & (place == decisions)  # a detour may be one in the other order alone
    ends = np.minimum(task.lengths(columns), (wrong != -1).sum(axis=1))[:, None]  # a detour may be the shorter one
    if not forward:  # what comes before the decision is as it should be
        wrong = np.where(place > decisions, answers, wrong)
    middle = (place > decisions) & (place < ends) if forward else (place < decisions) & (place > 1)
    middle &= wrong != answers  # a detour may come back: who is right there neither follows it nor jumps
    some = astray.any(axis=1) & middle.any(axis=1)
    if not some.any():
        raise ValueError(
            f"no {task.ANSWER} of up to {task.answer_length} symbols has a position between a decision and the last, "
            "where the cheat shows; longer ones have one (path-star graphs with path_length >= 4)."
        )
    return rows[some], wrong[some], middle[some]


def _by_position(shown: np.ndarray, middle: np.ndarray, forward: bool) -> dict[int, float]:
    """Shares at the positions that are in the middle of some rows, in the order of generation."""
    some = np.flatnonzero(middle.any(axis=0)).tolist()
    return {k + 1: float(shown[middle[:, k], k].mean()) for k in (some if forward else some[::-1])}


def _fates(predicted: np.ndarray, wrong: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    follow, jump = predicted == wrong, predicted == answers
    return {"follow": follow, "jump": jump & ~follow, "break": ~follow & ~jump}


def _last(predicted: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    copy, along = predicted == right, (predicted == wrong) & (wrong != right)
    shares = {"right_copy": copy, "wrong_arm": along, "other": ~copy & ~along}
    return {name: float(share.mean()) for name, share in shares.items()}
