"""Records: for each problem the fewest steps and FLOPs in which all seeds of a recipe solved it."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nt_failures.evaluation.metrics import wilson
from nt_failures.experiments.study.differences import FoundRun, read_runs
from nt_failures.experiments.study.results_file import read_results
from nt_failures.experiments.study.summary import markdown_table

SEEDS = 10
"""Seeds that an entry needs, from 0 on without a gap, each of which solves the whole answer on held-out rows."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A recipe all of whose seeds solved its problem."""

    problem: str
    """task and size, `path_star, deg2-path5-nodes50`"""
    log: Path
    """results.jsonl"""
    recipe: str
    runs: Sequence[FoundRun]

    @property
    def objective(self) -> str:
        """Its name and the order of the target, `next_token, reversed`."""
        return ", ".join(self.runs[0].argument(name) for name in ("objective", "order"))

    @property
    def size(self) -> str:
        """Its model and the rows of a batch, by which the flags of a study often differ: `mamba-4x32, 128`."""
        return ", ".join(str(self.runs[0].argument(name)) for name in ("model", "per_device_train_batch_size"))

    @property
    def steps(self) -> list[int]:
        """Steps to solve, of each seed."""
        return [run.study_run.solved_at for run in self.runs]

    @property
    def flops(self) -> list[float]:
        """FLOPs to solve, of each seed."""
        return [run.results.flops * run.study_run.solved_at / run.study_run.steps for run in self.runs]

    @property
    def commits(self) -> list[str]:
        """Of nt_failures, that trained them; `+` behind one with uncommitted changes, `?` where none is known."""
        words = [(run.results.versions or {}).get("commit", "?").split() for run in self.runs]
        return [*dict.fromkeys(first[:7] + "+" * bool(rest) for first, *rest in words)]


def entries(root: Path) -> list[Entry]:
    """The entries of all studies beneath a folder, by problem, the fastest first.

    ValueError for a results.jsonl that is damaged, or of tasks or objectives that are defined otherwise now.
    """
    found = [entry for log in sorted(root.rglob("results.jsonl")) for entry in _of_log(log)]
    return sorted(found, key=lambda entry: (entry.problem, statistics.median(entry.steps), entry.log, entry.recipe))


def _of_log(log: Path) -> Iterator[Entry]:
    rows = collections.defaultdict(list)
    read_results(log)  # refuses runs of another definition
    for run in read_runs(str(log.parent)):
        rows[run.results.extra["recipe"], run.results.extra["fingerprint"]].append(run)
    for (recipe, _), runs in rows.items():
        seeds, first = {run.seed for run in runs}, runs[0].study_run
        picked = runs[0].lost or seeds != {*range(len(seeds))}
        solved = all(run.study_run.solved and run.study_run.solved_at is not None for run in runs)
        held_out = runs[0].argument("overlap") == "forbid" and not runs[0].results.files
        whole = first.trained_positions is None and held_out
        if len(seeds) >= SEEDS and solved and whole and not picked and all(run.results.flops for run in runs):
            yield Entry(f"{first.task_name}, {first.make_task().config_name}", log, recipe, runs)


def tables(found: Sequence[Entry], root: Path) -> str:
    """A Markdown table for each problem; the logs are named as they lie beneath `root`."""
    text = ""
    for problem in dict.fromkeys(entry.problem for entry in found):
        rivals = [entry for entry in found if entry.problem == problem]
        cheapest = min(rivals, key=lambda entry: statistics.median(entry.flops))
        figures = ("solved [at least]", "steps", "FLOPs", "p", "commit", "log")
        rows = [("recipe", "model, batch", "objective", "record of", *figures)]
        for i, entry in enumerate(rivals):
            kinds = ["steps"] * (i == 0) + ["FLOPs"] * (entry is cheapest)
            n, steps, log = len(entry.runs), entry.steps, entry.log.relative_to(root).as_posix()
            p = f"{_p(entry, rivals[i + 1]):.3g}" if i + 1 < len(rivals) else "-"
            middle = f"{statistics.median(steps):,.0f} ({min(steps):,} to {max(steps):,})"
            solved = f"{n} of {n} [{math.floor(100 * wilson(n, n)[0])}%]"
            flops = f"{statistics.median(entry.flops):.2e}"
            made = (solved, middle, flops, p, ", ".join(entry.commits), f"[{log}]({log})")
            rows.append((entry.recipe, entry.size, entry.objective, ", ".join(kinds) or "-", *made))
        text += f"### {problem}\n\n{markdown_table(rows)}\n\n"
    return text or f"None yet: no recipe has {SEEDS} seeds that all solved their problem.\n\n"


def _p(entry: Entry, rival: Entry) -> float:
    """Of the steps as the less often evaluated of the two sees them: it learns later of the same step."""
    every = max(next(step for step, _ in each.runs[0].study_run.curve if step) for each in (entry, rival))
    return rank_sum_p(*([-(-step // every) * every for step in each.steps] for each in (entry, rival)))


def rank_sum_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the rank-sum test, over all exchanges of the two groups' runs; ties share their mean rank.

    Example:
        >>> rank_sum_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == 2 / 252
        True
    """
    values = np.array([*first, *second], dtype=np.float64)
    doubled = 2 * (values[:, None] > values).sum(axis=1) + (values[:, None] == values).sum(axis=1) + 1  # whole numbers
    ways = [collections.Counter({0: 1}), *(collections.Counter() for _ in first)]  # to draw so many runs, by their sum
    for rank in doubled.tolist():
        for size in range(len(first), 0, -1):
            for total, count in ways[size - 1].items():
                ways[size][total + rank] += count
    middle, found = doubled.mean() * len(first), doubled[: len(first)].sum()
    as_far = sum(count for total, count in ways[-1].items() if abs(total - middle) >= abs(found - middle))
    return as_far / math.comb(len(values), len(first))
