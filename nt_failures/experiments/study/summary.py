"""Many runs as one study: means and intervals over seeds, solve probability, time to solve, and their tables."""

import html
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nt_failures.evaluation.metrics import format_percent, t975, wilson
from nt_failures.experiments.study.study_run import DivergedRun, StudyRun


def summarise(
    runs: Sequence[StudyRun], forms: Mapping[str, str] | None = None, diverged: Sequence[DivergedRun] = ()
) -> list[dict[str, Any]]:
    """One group per recipe, by name: means over seeds, solve probability, time to solve.

    Of a recipe that was changed on the way, only the runs of one form count: of that in `forms` (fingerprint by recipe)
    if there are any, diverged ones too, else of the last (then `as_asked` is False). A seed that stands there twice
    counts once.

    Args:
        diverged: those of a group count as seeds that did not solve the task; the means are of the others. A recipe of
            which every seed diverged is left out.
    """
    chosen = {run.key.recipe: run.key.fingerprint for run in runs}
    present = {run.key.form for run in (*runs, *diverged)}
    chosen |= {recipe: form for recipe, form in (forms or {}).items() if (recipe, form) in present}
    asked, groups = chosen | dict(forms or {}), []
    for name, form in sorted(chosen.items()):
        ended: dict[int, StudyRun] = {}
        for run in runs:
            if run.key.form == (name, form):
                ended.setdefault(run.key.seed, run)
        lost = {run.key.seed for run in diverged if run.key.form == (name, form)} - {*ended}
        if ended:
            groups.append({**_summarise(name, list(ended.values()), len(lost)), "as_asked": form == asked[name]})
    return groups


def _summarise(name: str, runs: Sequence[StudyRun], diverged: int = 0) -> dict[str, Any]:
    values, first = [run.exact for run in runs], runs[0]
    times = [run.solved_at if run.solved else None for run in runs]
    solved, seeds = sum(run.solved for run in runs), len(runs) + diverged
    timed = [(run, time) for run, time in zip(runs, times, strict=True) if time is not None]
    flops = [run.flops * time / run.steps for run, time in timed if run.flops is not None]
    on_train = [run.train_decision for run in runs]
    return {
        "name": name,
        "decision_only": first.trained_positions is not None,
        "seeds": seeds,
        "diverged": diverged,
        "n": first.n,
        "chance": first.chance,
        "values": values,
        "exact": statistics.fmean(values),
        "exact_interval": mean_interval(values),
        "decision": statistics.fmean(run.decision for run in runs),
        "others": None if first.others is None else min(run.others for run in runs),
        "follow_rates": [run.follow_rate for run in runs if run.follow_rate is not None],
        "train_decision": None if None in on_train else statistics.fmean(on_train),
        "solved": solved,
        "solve_interval": wilson(solved, seeds),
        "watched": all(run.curve for run in runs),
        "steps_to_solve": statistics.median(time for _, time in timed) if timed else None,
        "times": [*times, *[None] * diverged],
        "flops_to_solve": statistics.median(flops) if flops else None,
        "steps": max(run.steps for run in runs),
        "seconds": statistics.median(run.seconds for run in runs),
        "verdicts": sorted({run.verdict for run in runs}) + ["diverged"] * (diverged > 0),
    }


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean over seeds, Student's t, cut to 0..1; None for fewer than two seeds."""
    if len(values) < 2:
        return None
    half = t975(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return max(mean - half, 0.0), min(mean + half, 1.0)


def best_first(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The most often and soonest solved first."""
    return sorted(
        groups, key=lambda g: (-g["solved"] / g["seeds"], g["steps_to_solve"] or math.inf, -g["exact"], g["name"])
    )


COLUMNS = (
    *("recipe", "chance", "exact, mean [95 %]", "decision", "others", "on train", "follows wrong arm", "solved"),
    *("steps to solve", "verdict"),
)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a Markdown table; the first is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *body))


def study_table(groups: Sequence[Mapping[str, Any]]) -> str:
    """The study as a Markdown table, with what its columns mean."""
    table = markdown_table([COLUMNS, *(cells(group) for group in groups)])
    note = (
        f"n = {_counts(groups)} held-out graphs a run. Mean and its 95 % interval (Student's t) over seeds. `exact` of "
        "training on some positions alone is the worst of these, such as the decision. `decision`: forced accuracy at "
        "the decision (a model that decodes in parallel: its own). `others`: the worst other position of any seed. `on "
        "train`: the decision on training graphs, where each was seen at least once. `follows wrong arm`: share that "
        "goes on along a wrong arm once put on it, mean (lowest to highest seed). `solved`: seeds with exact >= 95 %, "
        "with the Wilson interval of the solve probability. `steps to solve`: median over the solved seeds that stayed "
        "there on validation graphs; > N: none within N steps."
    )
    return f"{table}\n\n{note}\n{diverged_note(groups)}"


def comparison_table(groups: Sequence[Mapping[str, Any]]) -> str:
    """Objectives under one protocol, the most often and soonest solved first: how often, how soon, at what cost.

    Args:
        groups: of `summarise`, each with `rate`, the chosen multiple of the recipe's learning rates.
    """
    head = ("objective", "rate", "solved", "median steps to solve", "median FLOPs to solve", "exact, mean [95 %]")
    rows = [(*head, "follows wrong arm", "verdicts")]
    for group in best_first(groups):
        named = dict(zip(COLUMNS, cells(group), strict=True))
        flops = "-" if group["flops_to_solve"] is None else f"{group['flops_to_solve']:.1e}"
        rate = "-" if group["rate"] is None else f"x {group['rate']:g}"
        costs = (rate, named["solved"], named["steps to solve"], flops)
        rows.append(
            (named["recipe"], *costs, *(named[k] for k in ("exact, mean [95 %]", "follows wrong arm", "verdict")))
        )
    note = (
        f"n = {_counts(groups)} held-out graphs a run, greedy decoding in the objective's own way. `solved`: seeds "
        "with exact >= 95 %, with the Wilson interval of the solve probability. `steps to solve`: median over solved "
        "seeds of the first evaluation from which validation accuracy stays >= 95 %, to the run's end; > N: none "
        "within N steps. FLOPs: forward and backward of the objective's own step, counted "
        "(nt_failures/training/flops.py), without the optimizer's own. `rate`: times the recipe's learning rates, "
        f"chosen on validation graphs. Chance {groups[0]['chance']:.0%}."
    )
    return f"{markdown_table(rows)}\n\n{note}\n{diverged_note(groups)}"


def _counts(groups: Sequence[Mapping[str, Any]]) -> str:
    return " or ".join(f"{n:,}" for n in sorted({group["n"] for group in groups}))


def diverged_note(groups: Sequence[Mapping[str, Any]]) -> str:
    """A paragraph on the seeds that diverged, if any did."""
    lost = ", ".join(f"{_cell(group['name'])}: {group['diverged']}" for group in groups if group["diverged"])
    return f"\nSeeds that diverged, counted as not solved and left out of the means: {lost}.\n" if lost else ""


def missing_note(recipes: Iterable[str], groups: Sequence[Mapping[str, Any]]) -> str:
    """A paragraph on the recipes that are in no group, if any."""
    names = ", ".join(map(_cell, sorted(set(recipes) - {group["name"] for group in groups})))
    return f"\nWithout a finished run, so not in the table: {names}.\n" if names else ""


def earlier_note(groups: Sequence[Mapping[str, Any]]) -> str:
    """A paragraph on the groups whose runs were made otherwise than is asked now, if any."""
    names = ", ".join(_cell(group["name"]) for group in groups if not group["as_asked"])
    asked = "Of an earlier recipe or with other flags, as none of the present ones has ended"
    return f"\n{asked}: {names}.\n" if names else ""


def cells(group: Mapping[str, Any]) -> tuple[str, ...]:
    """A group as text, one entry for each of `COLUMNS`."""
    interval = group["exact_interval"]
    low, high = group["solve_interval"]
    spread = "" if interval is None else f" [{format_percent(interval[0])}, {format_percent(interval[1])}]"
    return (
        _cell(group["name"]),
        f"{group['chance']:.0%}",
        f"{format_percent(group['exact'])}{spread}",
        format_percent(group["decision"]),
        "-" if group["others"] is None else format_percent(group["others"]),
        "-" if group["train_decision"] is None else format_percent(group["train_decision"]),
        _range(group["follow_rates"]),
        f"{group['solved']} of {group['seeds']} [{low:.0%}, {high:.0%}]",
        _time(group),
        _cell(", ".join(group["verdicts"])),
    )


def _time(group: Mapping[str, Any]) -> str:
    """Median time to solve; longer than the budget where no seed did; nothing where nobody watched."""
    if group["steps_to_solve"] is not None:
        return f"{group['steps_to_solve']:,.0f}"
    return f"> {group['steps']:,}" if group["watched"] and not group["solved"] else "-"


def _cell(text: str) -> str:
    """Text that closes neither its cell nor its row, and opens no HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", r"\|")


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if min(values) == max(values):
        return format_percent(values[0])
    return (
        f"{format_percent(statistics.fmean(values))} ({format_percent(min(values))} to {format_percent(max(values))})"
    )
