"""Figures of a study: accuracy by recipe, time to solve by objective, and the map of delays."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from nt_failures.diagnosis.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    grid,
    in_percent,
    literal,
    new_axes,
)
from nt_failures.diagnosis.verdict import SOLVED_AT
from nt_failures.evaluation.metrics import format_percent
from nt_failures.experiments.study import delay
from nt_failures.experiments.study.summary import best_first, words_of


def side_by_side(groups: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Exact accuracy of several recipes: every seed a dot, their mean a bar, chance a tick.

    `groups` are of `summary.summarise`, in the order to draw; `some_positions` may be missing.
    """
    names = [group["name"] + ("*" if group.get("some_positions") else "") for group in groups]
    figure, axes, rows = _rows(names, title)
    for row, group in zip(rows, groups, strict=True):
        values = np.asarray(group["values"], dtype=float)
        colour, *colours = (BLUE if value >= SOLVED_AT else VERMILION for value in (values.min(), *values))
        axes.barh(row, values.mean(), height=0.62, color=colour, alpha=0.28, zorder=2)
        axes.scatter(values, row + _spread(len(values), 0.18), s=25, color=colours, zorder=4, clip_on=False)
        chance = {"color": "black", "linestyle": (0, (2, 1.5)), "linewidth": 1.3, "zorder": 5}
        if group["chance"] is not None:
            axes.plot([group["chance"]] * 2, [row - 0.42, row + 0.42], **chance)
        axes.text(1.05, row, format_percent(values.mean()), va="center", ha="left", fontsize=9.5)
    axes.set_xlim(0, 1.04)
    in_percent(axes.xaxis)
    words = words_of(groups)
    measured = f"exact {words.answer}s on held-out {words.problem}s"
    measured += "; *: the worst of the positions trained" if "*" in "".join(names) else ""
    legend = "dots: seeds, bar: mean, dashed: chance\nblue: solved (>= 95 %), a bar where every seed is"
    axes.set_xlabel(f"{measured}\n{legend}", fontsize=10)
    return figure


def time_to_solve(groups: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """When each seed of `summary.summarise`'s groups solves the task: a dot at its step, or a triangle at its end."""
    order = best_first(groups)
    figure, axes, rows = _rows([group["name"] for group in order], title)
    budget = max(group["steps"] for group in order)
    other = {"marker": ">", "color": VERMILION, "markerfacecolor": "white"}
    for row, group in zip(rows, order, strict=True):
        heights = row + _spread(len(group["times"]), 0.2)
        for y, step, end in zip(heights, group["times"], group["ends"], strict=True):
            look = other if step is None else {"marker": "o", "color": BLUE}
            axes.plot(end if step is None else step, y, markersize=6, clip_on=False, zorder=3, **look)
        axes.text(1.03 * budget, row, f"{group['solved']} of {group['seeds']}", va="center", ha="left", fontsize=9.5)
    axes.set_xlim(0, budget)
    axes.set_ylim(-0.6, len(order) - 0.4)
    words = words_of(groups)
    legend = f"dots: seeds that got there, triangles: the end of the others\nN of M: solved on test {words.problem}s"
    axes.set_xlabel(f"training steps until exact >= 95 % on validation {words.problem}s\n{legend}", fontsize=10)
    return figure


def by_difficulty(groups: Sequence[Mapping[str, Any]], name: str, title: str = "") -> Figure:
    """Exact accuracy by a size that differs from row to row, `Task.difficulty`: a line for each recipe."""
    figure, axes = new_axes(6.4, 3.6)
    for i, group in enumerate(groups):
        sizes, shares = zip(*group["by_difficulty"][name].items(), strict=True)
        look = {"marker": MARKERS[(i + i // 6) % 6], "color": COLOURS[i % 6], "label": literal(group["name"])}
        axes.plot(sizes, shares, markersize=5, clip_on=False, zorder=3, **look)
        axes.set_xticks(sizes)
    axes.set_ylim(0, 1)
    in_percent(axes.yaxis)
    grid(axes, "y")
    words = words_of(groups)
    axes.set_ylabel(f"exact {words.answer}s", fontsize=10)
    axes.set_xlabel(f"{literal(name)} (held-out {words.problem}s, mean over seeds)", fontsize=10)
    axes.set_title(literal(title), fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=9.5)
    return figure


def _rows(names: Sequence[str], title: str) -> tuple[Figure, Axes, np.ndarray]:
    """A figure with a row for each name, from the top, and the heights of the rows."""
    shown = [textwrap.wrap(name, 38) for name in names]
    height = max(0.42, 0.17 * max(map(len, shown)))
    figure, axes = new_axes(7.2, height * len(names) + 1.3)
    rows = np.arange(len(names))[::-1]
    axes.set_yticks(rows, ["\n".join(map(literal, lines)) for lines in shown], fontsize=9.5)
    grid(axes, "x")
    axes.set_title(literal(title), fontsize=11, loc="left")
    return figure, axes, rows


def _spread(count: int, width: float) -> np.ndarray:
    """Heights around a row's middle, so that seeds of one value do not hide each other."""
    return np.linspace(-width, width, count) if count > 1 else np.zeros(count)


COLOURS = (VERMILION, BLUE, GREEN, ORANGE, PURPLE, GREY)
MARKERS = "os^Dv*"
Looks = Mapping[str, tuple[str, str, float]]
"""Of an objective: its colour, its marker, and where it stands beside the middle of a problem's column."""


def delays(runs: Sequence[delay.Run], baseline: str) -> Figure:
    """One panel of times to solve for each optimizer, and one of the ratios to `baseline`; problems from left to right.

    A filled marker is a run, or a ratio of medians; an open one is a bound: the run was stopped there unsolved, and so
    the true value lies in the direction of the arrow.
    """
    problems = [problem for (problem,) in delay.by(runs, "problem")]
    optimizers = list(dict.fromkeys(run.optimizer for run in runs))
    objectives = sorted({run.objective for run in runs}, key=lambda name: (name != baseline, name))
    shifts = 0.8 * ((np.arange(len(objectives)) + 0.5) / len(objectives) - 0.5)
    looks = {name: (COLOURS[i % 6], MARKERS[(i + i // 6) % 6], shifts[i]) for i, name in enumerate(objectives)}
    size = max(6.4, 0.95 * len(problems) + 1.5), 2.4 * len(optimizers) + 3.2
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    panels = figure.subplots(len(optimizers) + 1, 1, sharex=True, squeeze=False)[:, 0]
    for axes, optimizer in zip(panels, optimizers, strict=False):
        _times(axes, [run for run in runs if run.optimizer == optimizer], problems, looks)
        axes.set_title(f"training steps until exact >= 95 %, {optimizer}", fontsize=11, loc="left")
    _ratios(panels[-1], runs, problems, looks, baseline)
    panels[-1].set_title(f"how many times later {baseline} is, in steps", fontsize=11, loc="left")
    for axes in panels:
        _log_scale(axes, len(problems))
    names = ["\n".join(map(literal, problem.split("-"))) for problem in problems]
    panels[-1].set_xticks(range(len(problems)), names, fontsize=9.5)
    panels[-1].set_xlim(-0.5, len(problems) - 0.5)
    look = {"frameon": False, "fontsize": 9.5, "title_fontsize": 9.5, "loc": "outside lower center", "ncols": 4}
    title = "open markers with an arrow: stopped unsolved, a bound"
    figure.legend(*panels[0].get_legend_handles_labels(), title=title, **look)
    return figure


def _log_scale(axes: Axes, problems: int) -> None:
    """A logarithmic axis with plain numbers, and a line between any two problems."""
    axes.set_yscale("log")
    axes.margins(y=0.14)  # room for the arrows
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.spines[["top", "right"]].set_visible(False)
    grid(axes, "y")
    for i in range(1, problems):
        axes.axvline(i - 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)


def _times(axes: Axes, runs: Sequence[delay.Run], problems: Sequence[str], looks: Looks) -> None:
    for objective, (colour, marker, shift) in looks.items():
        axes.plot([], [], marker, color=colour, label=objective)
        for (problem,), group in delay.by([run for run in runs if run.objective == objective], "problem").items():
            places = problems.index(problem) + shift + _spread(len(group), 0.05)
            for x, run in zip(places, group, strict=True):
                at = (run.solved_at, "=") if math.isfinite(run.solved_at) else (run.before, ">")
                _point(axes, x, *at, colour, marker)


def _ratios(axes: Axes, runs: Sequence[delay.Run], problems: Sequence[str], looks: Looks, baseline: str) -> None:
    cells = delay.by(runs, "problem", "optimizer", "objective")
    optimizers = list(dict.fromkeys(run.optimizer for run in runs))
    axes.axhline(1, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
    for (problem, optimizer, objective), group in cells.items():
        slow = cells.get((problem, optimizer, baseline))
        found = None if slow is None or objective == baseline else delay.ratio(slow, group)
        if found is not None:
            colour, marker, shift = looks[objective]
            shift += 0.06 * (optimizers.index(optimizer) - (len(optimizers) - 1) / 2)
            _point(axes, problems.index(problem) + shift, *found, colour, marker)
    if len(optimizers) > 1:
        axes.set_xlabel(f"ratios from left to right: {', '.join(optimizers)}", fontsize=9.5)


def _point(axes: Axes, x: float, y: float, sign: str, colour: str, marker: str) -> None:
    full = colour if sign == "=" else "white"
    axes.plot(x, y, marker, color=colour, markerfacecolor=full, markersize=6, zorder=3)
    if sign != "=":
        up = 1.35 if sign == ">" else 1 / 1.35
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.4, "shrinkA": 3, "shrinkB": 0}
        axes.annotate("", xy=(x, y * up), xytext=(x, y), arrowprops=arrow, annotation_clip=False, zorder=2)
