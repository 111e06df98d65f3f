"""Many runs as one study: means and ranges over seeds, solve probability, time to solve, and their tables."""

import html
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nt_failures.evaluation.metrics import format_chance, format_percent, format_rounded, wilson
from nt_failures.experiments.study.results_file import Key, StudyRun
from nt_failures.tasks.facts import WORDS, Words
from nt_failures.training.gradient_shares import STEPS

EXACT = "exact, mean (range)"
"""The column's name in the tables."""


def summarise(runs: Sequence[StudyRun], diverged: Sequence[Key] = ()) -> list[dict[str, Any]]:
    """One group per recipe, by name: means over seeds, solve probability, time to solve.

    Args:
        diverged: those of a group count as seeds that did not solve the task; the means are of the others. A recipe of
            which every seed diverged is left out.
    """
    lost = [key.recipe for key in diverged]
    names = sorted({run.key.recipe for run in runs})
    return [_summarise(name, [run for run in runs if run.key.recipe == name], lost.count(name)) for name in names]


def _summarise(name: str, runs: Sequence[StudyRun], diverged: int) -> dict[str, Any]:
    values, first = [run.exact for run in runs], runs[0]
    ends = [max([run.steps, *(step for step, _ in run.curve[-1:])]) for run in runs]  # behind the best checkpoint
    solved, seeds = sum(run.solved for run in runs), len(runs) + diverged
    timed = [(run, run.solved_at) for run in runs if run.solved and run.solved_at is not None]
    flops = [run.flops * time / run.steps for run, time in timed if run.flops is not None]
    return {
        "name": name,
        "some_positions": first.trained_positions is not None,
        "seeds": seeds,
        "diverged": diverged,
        "n": first.n,
        "chance": first.chance,
        "values": values,
        "exact": statistics.fmean(values),
        "decision": _mean([run.decision for run in runs]),
        "others": None if first.others is None else min(run.others for run in runs),
        "follow_rates": [run.follow_rate for run in runs if run.follow_rate is not None],
        "train_decision": _mean([run.train_decision for run in runs]),
        "gradients": [
            statistics.median(shares) if shares else None
            for shares in (
                *([share for run in runs for step, share in run.gradients[:-1] if step == at] for at in STEPS),
                [run.gradients[-1][1] for run in runs if run.gradients],
            )
        ],
        "solved": solved,
        "solve_interval": wilson(solved, seeds),
        "watched": all(run.curve for run in runs),
        "steps_to_solve": statistics.median(time for _, time in timed) if timed else None,
        "times": [run.solved_at for run in runs],
        "ends": ends,
        "flops_to_solve": statistics.median(flops) if flops else None,
        "steps": max(ends),
        "verdicts": sorted({run.verdict for run in runs}) + ["diverged"] * (diverged > 0),
        "by_difficulty": _by_difficulty(runs),
        "words": first.words,
        "creativity": _mean([run.creativity for run in runs]),
    }


def _by_difficulty(runs: Sequence[StudyRun]) -> dict[str, dict[int, float]]:
    """The mean over runs of exact answers, by each size that differs from row to row, where all runs have it."""
    return {
        name: {size: statistics.fmean(run.by_difficulty[name][size] for run in runs) for size in sizes}
        for name, sizes in runs[0].by_difficulty.items()
        if all(run.by_difficulty.get(name, {}).keys() == sizes.keys() for run in runs)
    }


def words_of(groups: Sequence[Mapping[str, Any]]) -> Words:
    """What the task of all groups calls its things; general words where they are of several tasks."""
    first, *others = {group.get("words", WORDS) for group in groups}
    return WORDS if others else first


def best_first(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The most often and soonest solved first."""

    def place(group: Mapping[str, Any]) -> tuple[float, float, float, str]:
        steps = math.inf if group["steps_to_solve"] is None else group["steps_to_solve"]
        return -group["solved"] / group["seeds"], steps, -group["exact"], group["name"]

    return sorted(groups, key=place)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a Markdown table; the first is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *body))


def study_table(groups: Sequence[Mapping[str, Any]], first: str = "recipe") -> str:
    """The study as a Markdown table, with what its columns mean; `first` is the head of its first column."""
    words = words_of(groups)
    note = (
        "Mean (lowest to highest) over seeds, which share their test rows: how often another seed would solve it, the "
        "interval in `solved` tells. `exact` of training on some positions alone is the worst of these, such as the "
        "decision. `decision`: forced accuracy at the decision (a "
        "model that decodes in parallel: its own). `others`: the worst other position of any seed. `on train`: the "
        f"decision on training {words.problem}s, where each was seen at least once. `follows {words.detour}`: share "
        f"that goes on along a {words.detour} once put on it. `solved`: seeds with "
        "exact >= 95 %, with the Wilson interval of the solve probability. `steps to solve`: median over the solved "
        f"seeds that stayed there on validation {words.problem}s; > N: none within N steps."
    )
    head, *rows = cells(groups[0], words), *(cells(group, words).values() for group in groups)
    leads = [(first, *_settings(groups[0])), *map(_lead, groups)]
    return _table(groups, [(*lead, *row) for lead, row in zip(leads, (head, *rows), strict=True)], f". {note}")


def comparison_table(groups: Sequence[Mapping[str, Any]]) -> str:
    """Objectives under one protocol, the most often and soonest solved first: how often, how soon, at what cost.

    Args:
        groups: of `summarise`, each with `rate`, the chosen multiple of the recipe's learning rates.
    """
    head = ("rate", "solved", "median steps to solve", "median FLOPs to solve", EXACT)
    words = words_of(groups)
    rows = [("objective", *_settings(groups[0]), *head, f"follows {words.detour}", "gradient", "verdicts")]
    for group in best_first(groups):
        cell = cells(group, words)
        flops = "-" if group["flops_to_solve"] is None else f"{group['flops_to_solve']:.1e}"
        costs = (f"x {group['rate']:g}", cell["solved"], cell["steps to solve"], flops)
        shares = ["-" if share is None else format_rounded(share) for share in group["gradients"]]
        gradients = " / ".join(shares) if {*shares} != {"-"} else "-"
        judged = (cell[head[-1]], cell[f"follows {words.detour}"], gradients, cell["verdict"])
        rows.append((*_lead(group), *costs, *judged))
    chances = " or ".join(dict.fromkeys(cells(g, words)["chance"] for g in groups if g["chance"] is not None)) or "-"
    note = (
        "greedy decoding in the objective's own way. `exact`: mean (lowest to highest seed). `solved`: seeds with "
        "exact >= 95 %, with the Wilson interval of the solve probability. `steps to solve`: median first evaluation "
        "from which validation accuracy stays >= 95 %, over solved seeds that have one; > N: none within N steps. "
        "FLOPs: forward and backward of the objective's own step, counted (nt_failures/training/flops.py), without "
        "the optimizer's own. "
        f"`rate`: times the recipe's learning rates; of several, validation {words.problem}s chose it. `gradient`: "
        "norm of the further terms' gradient into the first block over the next token's, median over seeds at the "
        "start, behind 100 steps and at the end. "
        f"Chance {chances}."
    )
    if any(group["some_positions"] for group in groups):
        note += " `exact` of training on some positions alone is the worst of these."
    return _table(groups, rows, f", {note}")


def _settings(group: Mapping[str, Any]) -> dict[str, str]:
    """In what the groups differ, where somebody has said so: the text of each value by its name, as cells."""
    return {_cell(name): _cell(value) for name, value in group.get("settings", {}).items()}


def _lead(group: Mapping[str, Any]) -> tuple[str, ...]:
    """The first cells of a group's row: what it is called in a table, and its settings."""
    return (_cell(group.get("entry", group["name"])), *_settings(group).values())


def _table(groups: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]], note: str) -> str:
    """Rows, the first of them the head, and below them the note and the seeds that diverged."""
    counts = " or ".join(f"{n:,}" for n in sorted({group["n"] for group in groups}))
    lost = [f"{_cell(group['name'])}: {group['diverged']}" for group in groups if group["diverged"]]
    new = [f"{_cell(g['name'])}: {format_percent(g['creativity'])}" for g in groups if g.get("creativity") is not None]
    created = _note("Creativity (answers that are right, of no train row and different), mean over seeds", new)
    diverged = _note("Seeds that diverged, counted as not solved and left out of the means", lost)
    return (
        f"{markdown_table(rows)}\n\nn = {counts} held-out {words_of(groups).problem}s a run{note}\n{created}{diverged}"
    )


def difficulty_tables(groups: Sequence[Mapping[str, Any]]) -> str:
    """A table of exact answers for each size that differs from row to row, where all groups have the same ones."""
    tables = []
    for name in shared_difficulties(groups):
        sizes = [*groups[0]["by_difficulty"][name]]
        rows = [(f"exact by {name}", *map(str, sizes))]
        for group in groups:
            rows.append((_cell(group["name"]), *(_percent(group["by_difficulty"][name][size]) for size in sizes)))
        tables.append(f"\n{markdown_table(rows)}\n\nMeans over seeds; the other sizes mixed.\n")
    return "".join(tables)


def shared_difficulties(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the sizes that differ from row to row alike in all groups."""
    first = groups[0]["by_difficulty"]
    return [
        name for name in first if all(g["by_difficulty"].get(name, {}).keys() == first[name].keys() for g in groups)
    ]


def missing_note(recipes: Iterable[str], groups: Sequence[Mapping[str, Any]]) -> str:
    """A paragraph on the recipes that are in no group, if any."""
    names = map(_cell, sorted(set(recipes) - {group["name"] for group in groups}))
    return _note("Without a finished run, so not in the table", names)


def _note(said: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"\n{said}: {listed}.\n" if listed else ""


def cells(group: Mapping[str, Any], words: Words) -> dict[str, str]:
    """A group as text, by the columns of the study's table behind its name."""
    low, high = group["solve_interval"]
    if group["steps_to_solve"] is not None:
        time = f"{group['steps_to_solve']:,.1f}".removesuffix(".0")
    else:  # longer than the budget where no seed got there; not known where nobody watched, or one did on test alone
        never = group["watched"] and not group["solved"] and all(time is None for time in group["times"])
        time = f"> {group['steps']:,}" if never else "-"
    return {
        "chance": "-" if group["chance"] is None else format_chance(group["chance"], 0),
        EXACT: _range(group["values"]),
        "decision": _percent(group["decision"]),
        "others": _percent(group["others"]),
        "on train": _percent(group["train_decision"]),
        f"follows {words.detour}": _range(group["follow_rates"]),
        "solved": f"{group['solved']} of {group['seeds']} [{_coarse(low)}, {_coarse(high)}]",
        "steps to solve": time,
        "verdict": _cell(", ".join(group["verdicts"])),
    }


def _cell(text: str) -> str:
    """Text that closes neither its cell nor its row, and opens no HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", r"\|")


def _mean(shares: Sequence[float | None]) -> float | None:
    """The mean; None unless all are known."""
    return None if None in shares else statistics.fmean(shares)


def _percent(value: float | None) -> str:
    return "-" if value is None else format_percent(value)


def _coarse(value: float) -> str:
    """In whole percent, where that is neither nothing nor everything and is said to be."""
    return f"{value:.0%}" if value in (0, 1) or 0.005 <= value < 0.995 else format_percent(value)


def _range(values: Sequence[float]) -> str:
    """The mean with the lowest and the highest, where they differ."""
    if not values or min(values) == max(values):
        return _percent(values[0] if values else None)
    return f"{_percent(statistics.fmean(values))} ({_percent(min(values))} to {_percent(max(values))})"
