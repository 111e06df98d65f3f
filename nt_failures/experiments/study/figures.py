"""Several recipes side by side: how accurate they end, and when they solve the task."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nt_failures.diagnosis.figures.style import BLUE, VERMILION, literal, new_axes
from nt_failures.evaluation.metrics import share
from nt_failures.experiments.study.summary import best_first


def side_by_side(groups: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Exact accuracy of several recipes: every seed a dot, their mean a bar with its interval, chance a tick.

    Args:
        groups: each with `name`, `values` (one exact accuracy per seed), `chance` and, if known, `exact_interval` (of the
            mean) and `decision_only` (the values are of the decision), in the order to draw.
    """
    if not groups or not all(len(group["values"]) for group in groups):
        raise ValueError(f"{len(groups)} groups, some without values; each needs one accuracy per seed.")
    figure, axes = new_axes(7.2, 0.42 * len(groups) + 1.3)
    rows = np.arange(len(groups))[::-1]
    for row, group in zip(rows, groups, strict=True):
        values = np.asarray(group["values"], dtype=float)
        mean = values.mean()
        solved = mean >= 0.95
        colour = BLUE if solved else VERMILION
        axes.barh(row, mean, height=0.62, color=colour, alpha=0.28, zorder=2)
        axes.scatter(
            values,
            row + _spread(len(values), 0.18),
            s=25,
            color=[BLUE if value >= 0.95 else VERMILION for value in values],
            zorder=4,
            clip_on=False,
        )
        if interval := group.get("exact_interval"):
            axes.plot(interval, [row, row], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=3)
        chance = group["chance"]
        axes.plot(
            [chance, chance], [row - 0.42, row + 0.42], color="black", linestyle=(0, (2, 1.5)), linewidth=1.3, zorder=5
        )
        axes.text(1.05, row, share(mean), va="center", ha="left", fontsize=9.5)
    names = [literal(group["name"]) + ("*" if group.get("decision_only") else "") for group in groups]
    axes.set_yticks(rows, names, fontsize=9.5)
    axes.set_xlim(0, 1.04)
    axes.set_xticks(np.linspace(0, 1, 5), [f"{tick:.0%}" for tick in np.linspace(0, 1, 5)])
    measured = "exact paths on held-out graphs" + ("; *: the decision alone" if "*" in "".join(names) else "")
    axes.set_xlabel(
        f"{measured}\ndots: seeds, bar: mean, line: its 95 % interval, dashed: chance\nblue: solved (>= 95 %)",
        fontsize=10,
    )
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(literal(title), fontsize=11, loc="left")
    return figure


def time_to_solve(groups: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """When each seed of several recipes solves the task: a dot at its step, an open triangle at the end if it never did.

    Args:
        groups: of `study.summarise`; shown are `name`, `times` (a step per seed, None for never), `solved` and `seeds`.
    """
    order = best_first(groups)
    figure, axes = new_axes(7.2, 0.42 * len(order) + 1.3)
    rows = np.arange(len(order))[::-1]
    budget = max(group["steps"] for group in order)
    for row, group in zip(rows, order, strict=True):
        spread = row + _spread(len(group["times"]), 0.2)
        for y, step in zip(spread, group["times"], strict=True):
            solved = step is not None
            look = (
                {"marker": "o", "color": BLUE}
                if solved
                else {"marker": ">", "color": VERMILION, "markerfacecolor": "white"}
            )
            axes.plot(step if solved else group["steps"], y, markersize=6, clip_on=False, zorder=3, **look)
        axes.text(1.03 * budget, row, f"{group['solved']} of {group['seeds']}", va="center", ha="left", fontsize=9.5)
    axes.set_yticks(rows, [literal(group["name"]) for group in order], fontsize=9.5)
    axes.set_xlim(0, budget)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel(
        "training steps until exact >= 95 % on validation graphs\ndots: seeds, triangles: never", fontsize=10
    )
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=11, loc="left")
    return figure


def _spread(count: int, width: float) -> np.ndarray:
    """Heights around a row's middle, so that seeds of one value do not hide each other."""
    return np.linspace(-width, width, count) if count > 1 else np.zeros(count)
