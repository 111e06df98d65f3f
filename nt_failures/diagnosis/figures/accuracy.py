"""Accuracy by position: at the end of training, and over its course."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nt_failures.diagnosis.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    grid,
    in_percent,
    new_axes,
)
from nt_failures.evaluation.metrics import Accuracies, format_chance, positions_of, wilson
from nt_failures.registry import plural
from nt_failures.tasks.facts import Words

LINES = 5
"""Positions at most that are drawn as lines over training: more cannot be told apart."""


def _accuracy_axis(axes: Axes, name: str, decision: int | None, chance: float | None) -> None:
    """Shares from the bottom to the top, and chance: as a line of the decision's position, or else in words below."""
    axes.set_ylim(-0.03, 1.05)
    in_percent(axes.yaxis)
    axes.set_ylabel("accuracy", fontsize=11)
    grid(axes, "y")
    if chance is not None and decision is not None:
        axes.axhline(chance, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
    _name_below(axes, name, decision, chance)


def _name_below(axes: Axes, name: str, decision: int | None, chance: float | None) -> None:
    """The name of the axis, and the chance that no position has."""
    if chance is not None and decision is None:  # at the other positions, which are most, it says nothing
        name += f"\nchance at the decision, whose position differs: {format_chance(chance).replace('%', ' %')}"
    axes.set_xlabel(name, fontsize=11)


def _written(order: str, before: str) -> str:
    """What is said of positions, which are the task's own, where the model writes them in reversed order."""
    return f"{before}(written from the last to the first)" if order == "reversed" else ""


def forced_vs_free(
    accuracies: Accuracies, decision: int | None, chance: float | None, words: Words, order: str = "forward"
) -> Figure:
    """Accuracy by position, with the true answer revealed (forced) and on the model's own (free), 95 % intervals.

    Forced accuracy that was not measured is left out, and the title says so.

    Args:
        decision: its position, from 1; None where it differs from row to row or there is none.
        chance: accuracy of a guess there, in 0..1.
        order: that in which the model writes; below the positions stands that it is reversed.

    Raises:
        ValueError: forced and free are not of the same positions.

    Example:
        >>> from nt_failures.evaluation.metrics import Shares
        >>> from nt_failures.tasks import PathStar
        >>> shares = Shares(exact=0.5, positions={1: 1.0, 2: 0.5, 3: 1.0})
        >>> figure = forced_vs_free(Accuracies(n=2000, forced=shares, free=shares), 2, 0.5, PathStar().words)
        >>> figure.axes[0].get_ylabel()
        'accuracy'
    """
    free, n = accuracies.free.positions, accuracies.n
    forced = free if accuracies.forced is None else accuracies.forced.positions
    if not forced or set(forced) != set(free):
        raise ValueError(f"forced and free must be of the same positions; given {[*forced]} and {[*free]}.")
    figure, axes = new_axes(6.4, 3.4)
    _accuracy_axis(axes, f"position in the {words.answer}{_written(order, ' ')}", decision, chance)
    drawn = [
        (forced, ORANGE, "s", -0.09, "forced: true earlier symbols revealed"),
        (free, BLUE, "o", 0.09, "free: decoding on its own"),
    ]
    for shares, colour, marker, shift, label in drawn[accuracies.forced is None :]:
        positions = np.array(sorted(shares))
        values = np.array([shares[k] for k in positions])
        counts = [accuracies.free.n.get(k, n) for k in sorted(shares)]
        bars = np.abs(np.array([wilson(share * m, m) for share, m in zip(values, counts, strict=True)]).T - values)
        look = {"fmt": marker, "color": colour, "markersize": 8, "capsize": 3}
        axes.errorbar(positions + shift, values, yerr=bars, label=label, zorder=3, **look)
    positions = sorted(forced)
    names = [f"{k}\ndecision" if k == decision else str(k) for k in positions]
    axes.set_xticks(positions, names)
    axes.set_xlim(positions[0] - 0.5, positions[-1] + 0.5)
    if chance is not None and decision is not None:
        axes.text(positions[-1] + 0.45, chance + 0.02, "chance", color=GREY, ha="right", va="bottom", fontsize=9)
    different = "" if accuracies.rows is None else "different "
    measured = "Free accuracy (forced not measured)" if accuracies.forced is None else "Forced and free accuracy"
    axes.set_title(f"{measured}, {plural(n, f'{different}held-out {words.problem}')}", fontsize=11, loc="left")
    figure.legend(frameon=False, fontsize=9.5, loc="outside lower center", ncols=2)  # within, it would hide low points
    return figure


def learning_curves(
    curve: Sequence[Mapping[str, float]],
    decoding: str,
    decision: int | None,
    chance: float | None,
    order: str = "forward",
) -> Figure:
    """Accuracy of every position over training, the decision in vermilion: lines, or shades of more than LINES.

    Args:
        curve: evaluations, each with `step` and `{decoding}/position_k`; others are left out.

    Raises:
        ValueError: no evaluation of this decoding, or one without a step or with other positions.

    Example:
        >>> curve = [{"step": step, "free/position_1": 1.0, "free/position_2": 0.5} for step in (100, 200)]
        >>> learning_curves(curve, "free", decision=2, chance=0.5).axes[0].get_xlabel()
        'training step'
    """
    points = [(entry.get("step"), shares) for entry in curve if (shares := positions_of(entry, decoding))]
    positions = list(points[0][1]) if points else []
    if not points or any(step is None or set(shares) != set(positions) for step, shares in points):
        raise ValueError(f"the curve needs evaluations that each have step and {decoding}/position_k of the same k.")
    steps, values = np.array([step for step, _ in points]), np.array([[*shares.values()] for _, shares in points]).T
    figure, axes = new_axes(6.4, min(max(3.6, 0.17 * len(positions) + 1.2), 8))
    axes.set_title(f"What is learnt when ({decoding} accuracy)" + _written(order, "\n"), fontsize=11, loc="left")
    draw = _lines if len(positions) <= LINES else _shades
    draw(axes, steps, dict(zip(positions, values, strict=True)), decision, chance)
    return figure


def _lines(
    axes: Axes, steps: np.ndarray, values: Mapping[int, np.ndarray], decision: int | None, chance: float | None
) -> None:
    """One line for each position."""
    _accuracy_axis(axes, "training step", decision, chance)
    others = iter(zip([SKY, BLUE, GREEN, ORANGE, PURPLE], "svD^P", strict=True))
    for k, shares in values.items():
        # Lines that lie on one another stay visible: the first drawn are the widest.
        wide = 6.5 - 5.0 * (k - 1) / len(values)
        colour, marker, width = (VERMILION, "o", 1.8) if k == decision else (*next(others), wide)
        look = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": width}
        label = f"position {k}, the decision" if k == decision else f"position {k}"
        axes.plot(steps, shares, label=label, zorder=3 if k == decision else 2, **look)
    axes.set_xlim(0, max(steps.max() * 1.02, 1))
    if chance is not None and decision is not None:
        axes.text(steps[-1] * 0.01, chance + 0.02, "chance", color=GREY, ha="left", va="bottom", fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _shades(
    axes: Axes, steps: np.ndarray, values: Mapping[int, np.ndarray], decision: int | None, chance: float | None
) -> None:
    """One row for each position, the first on top, the darker the more is right."""
    ends = [0, *(steps[1:] + steps[:-1]) / 2, max(steps[-1], 1)]
    rows = np.arange(len(values) + 1) - 0.5
    shades = axes.pcolormesh(ends, rows, [*values.values()], cmap="Blues", vmin=0, vmax=1)
    axes.hlines(rows[1:-1], 0, ends[-1], color="white", linewidth=0.8)
    names = {k: f"{k}, the decision" if k == decision else str(k) for k in values}
    every = -(-len(names) // 45)  # more names would overlap
    shown = range([*names].index(decision) % every if decision in names else 0, len(names), every)
    axes.set_yticks(shown, [[*names.values()][i] for i in shown])
    for i, name in zip(shown, axes.get_yticklabels(), strict=True):
        name.set_color(VERMILION if [*names][i] == decision else "black")
    axes.invert_yaxis()
    axes.set_ylabel("position", fontsize=11)
    bar = axes.figure.colorbar(shades, ax=axes)
    in_percent(bar.ax.yaxis)
    bar.set_label("accuracy", fontsize=11)
    _name_below(axes, "training step", decision, chance)
    if chance is not None and decision is not None:
        bar.ax.axhline(chance, color=VERMILION, linewidth=1.2)
        bar.ax.text(-0.2, chance, "chance", color=VERMILION, ha="right", va="center", fontsize=9)
