"""The map of delays: when each run solved its problem, if it did, and how that time grows with the problem's size."""

import dataclasses
import math
import operator
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from nt_failures.experiments.study import survival
from nt_failures.experiments.study.results_file import StudyRun
from nt_failures.experiments.study.summary import markdown_table


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the map.

    `before` are the training steps at the last evaluation at which it was not solved, 0 if there was none; `solved_at`
    those at the evaluation from which it was solved, infinite for a run that was censored at `before`. `sizes` are the
    `Task.factors`, in words.
    """

    problem: str
    objective: str
    optimizer: str
    seed: int
    sizes: Mapping[str, float]
    before: int
    solved_at: float
    flops_per_step: float


def observe(run: StudyRun, problem: str, objective: str, optimizer: str) -> Run:
    """What a line of results.jsonl says, under the names of its cell of the map."""
    solved_at = run.solved_at
    return Run(
        *(problem, objective, optimizer, run.key.seed, run.make_task().factors),
        before=max((step for step, _ in run.curve if solved_at is None or step < solved_at), default=0),
        solved_at=math.inf if solved_at is None else solved_at,
        flops_per_step=run.flops / run.steps,
    )


def factors_of(runs: Sequence[Run]) -> list[str]:
    """The factors of any of the runs: a size that is a range in some problems is a number in others."""
    most_first = sorted(runs, key=lambda run: -len(run.sizes))
    return list(dict.fromkeys(name for run in most_first for name in run.sizes))


def by(runs: Sequence[Run], *names: str) -> dict[tuple, list[Run]]:
    """Runs by the values of these fields, smaller problems first, otherwise in the order of their first run."""
    groups: dict[tuple, list[Run]] = {}
    factors = factors_of(runs)
    for run in sorted(runs, key=lambda run: [run.sizes.get(name, math.inf) for name in factors]):
        groups.setdefault(tuple(vars(run)[name] for name in names), []).append(run)
    return groups


def median(runs: Sequence[Run], flops: bool = False) -> tuple[float, bool]:
    """Median time to solve in steps (or FLOPs), and whether it is one: if not, it is longer than the number given."""
    cost = [run.flops_per_step if flops else 1 for run in runs]
    times, bounds = [run.solved_at for run in runs], [min(run.solved_at, run.before) for run in runs]
    middle, bound = (statistics.median(map(operator.mul, known, cost)) for known in (times, bounds))
    return (middle, True) if math.isfinite(middle) else (bound, False)


def ratio(slow: Sequence[Run], fast: Sequence[Run], flops: bool = False) -> tuple[float, str] | None:
    """Ratio of the medians with `=`, `>` or `<`; None where both are censored, or the faster was never looked at."""
    (slow_time, slow_solved), (fast_time, fast_solved) = median(slow, flops), median(fast, flops)
    if not (slow_solved or fast_solved) or fast_time == 0:  # 0: nobody looked before its training ended
        return None
    return slow_time / fast_time, "=" if slow_solved and fast_solved else "<" if slow_solved else ">"


def growth(runs: Sequence[Run]) -> dict[str, np.ndarray]:
    """By what the time is multiplied for each more of a factor: estimate and bootstrap replicates, of the logarithm.

    A factor is left out unless at least half of the runs are solved at each of two of its values, and with it the runs
    of other values: where few are solved, these are the lucky ones, and the growth that they show is too small (in
    simulation, intervals from them cover 63 %). All runs must have the same factors.
    """
    # All fits resample alike. With runs in the order of their seeds, a ratio of two pairs the runs of a seed.
    kept, factors = sorted(runs, key=lambda run: (*run.sizes.values(), run.seed)), []
    for name in factors_of(runs):
        times = {level: [] for level in {run.sizes[name] for run in runs}}
        for run in runs:
            times[run.sizes[name]].append(run.solved_at)
        levels = {level for level, found in times.items() if math.isfinite(statistics.median_low(found))}
        if len(levels) > 1:
            factors.append(name)
        else:
            kept = [run for run in kept if run.sizes[name] in levels]
    if not factors or not kept:
        return {}
    design_NP = np.array([[1.0, *(run.sizes[name] for name in factors)] for run in kept])
    bounds = (np.array([float(vars(run)[name]) for run in kept]) for name in ("before", "solved_at"))
    found = survival.fit(design_NP, *bounds)
    return {} if found is None else {name: found[:, 1 + i] for i, name in enumerate(factors)}


def markdown(runs: Sequence[Run], baseline: str) -> str:
    """Both tables: the times of every cell and their growth, also as ratios of `baseline` to each other objective."""
    return f"{_cell_table(runs, baseline)}\n\n{_growth_table(runs, baseline)}\n"


def _cell_table(runs: Sequence[Run], baseline: str) -> str:
    head = ("problem", "optimizer", "objective", "solved", "steps to solve", "FLOPs to solve")
    rows = [(*head, f"{baseline} later by", "in FLOPs")]
    cells = by(runs, "problem", "optimizer", "objective")
    for (problem, optimizer, objective), group in cells.items():
        slow = None if objective == baseline else cells.get((problem, optimizer, baseline))
        times, later = [], []
        for flops, form in ((False, ",.0f"), (True, ".1e")):
            time, solved = median(group, flops)
            times.append(f"{'' if solved else '> '}{time:{form}}")
            found = None if slow is None else ratio(slow, group, flops)
            later.append("-" if found is None else _times(*found))
        rows.append((problem, optimizer, objective, _solved(group), *times, *later))
    note = (
        "Medians over seeds of the first evaluation from which validation accuracy stays >= 95 % until the run ends; "
        ">: longer than that, since a run in the middle was stopped unsolved. A time is that of an evaluation, so a "
        "ratio to a time of few evaluations is coarse. FLOPs are counted (nt_failures/training/flops.py): forward and "
        "backward, without the optimizer's own."
    )
    return f"{markdown_table(rows)}\n\n{note}"


def _times(value: float, sign: str) -> str:
    """A ratio with one decimal; of a bound no more than it bounds."""
    tenths = {"=": round, ">": math.floor, "<": math.ceil}[sign](round(10 * value, 6))
    return f"{sign} {tenths / 10:.1f} x".removeprefix("= ")


def _growth_table(runs: Sequence[Run], baseline: str) -> str:
    factors = factors_of(runs)
    told = {key: [] for key in by(runs, "optimizer", "objective")}
    groups = told | by([run for run in runs if len(run.sizes) == len(factors)], "optimizer", "objective")
    effects = {key: growth(group) for key, group in groups.items()}
    rows = [("time of", "optimizer", "solved runs", *(f"for each {name}" for name in factors))]
    for (optimizer, objective), group in groups.items():
        found = effects[optimizer, objective]
        rows.append((objective, optimizer, _solved(group), *(_factor(found.get(name)) for name in factors)))
    for (optimizer, objective), fast in effects.items():
        slow = effects.get((optimizer, baseline), {})
        if objective != baseline:
            both = [slow[name] - fast[name] if name in slow and name in fast else None for name in factors]
            rows.append((f"{baseline} / {objective}", optimizer, "", *map(_factor, both)))
    note = (
        "Log-normal regression of the time on all factors at once, censored runs as such, with 95 % bootstrap "
        "intervals over the seeds of each problem (of simulated studies with three seeds, most of them solved, they "
        "cover 91 to 95 %): what other problems of the same size would give is not in them. `not identified`: too few "
        "solved runs, fewer than two values of the factor at which half of them are, or a problem with one run alone. "
        "A problem in which one of the factors is a "
        "range, and no number, is left out. The form (a factor for each more, so "
        "exponential growth) is assumed, not tested: two or three values of a factor cannot tell it from another."
    )
    return f"{markdown_table(rows)}\n\n{note}"


def _solved(runs: Sequence[Run]) -> str:
    return f"{sum(math.isfinite(run.solved_at) for run in runs)} of {len(runs)}"


def _factor(logs: np.ndarray | None) -> str:
    """A factor with its interval, from the logarithms of estimate and replicates; no figure without an interval."""
    bounds = None if logs is None else survival.interval(logs[1:])
    if bounds is None:
        return "not identified"
    estimate, low, high = np.exp([logs[0], *bounds])
    digits = max(0, 1 - math.floor(math.log10(high - low))) if high > low else 2  # to tell the ends apart
    return f"x {estimate:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"
