"""Figures for README, reports and cards. Made without a display; colours are Okabe and Ito's, safe for colour-blind eyes."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nt_failures.scoring import share, wilson

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#8A8A8A",
)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10)
    return figure, axes


def _accuracy_axis(axes: Axes, chance: float | None, label: str = "accuracy") -> None:
    axes.set_ylim(-0.03, 1.05)
    axes.set_yticks(np.linspace(0, 1, 5), [f"{tick:.0%}" for tick in np.linspace(0, 1, 5)])
    axes.set_ylabel(label, fontsize=11)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    if chance is not None:
        axes.axhline(chance, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure to a `.png` file, without the version of matplotlib that would make its bytes differ."""
    figure.savefig(path, metadata={"Software": None})


def forced_vs_free(
    forced: Mapping[int, float], free: Mapping[int, float], n: int, decision: int, chance: float, title: str = ""
) -> Figure:
    """Accuracy by position, with the true path revealed (forced) and on the model's own (free), with 95 % intervals."""
    if not forced or set(forced) != set(free):
        raise ValueError(
            f"forced and free must be of the same positions, at least one; given {[*forced]} and {[*free]}."
        )
    figure, axes = _axes(6.4, 3.4)
    _accuracy_axis(axes, chance)
    for shares, colour, marker, shift, label in (
        (forced, ORANGE, "s", -0.09, "forced: true earlier nodes revealed"),
        (free, BLUE, "o", 0.09, "free: decoding on its own"),
    ):
        positions = np.array(sorted(shares))
        values = np.array([shares[k] for k in positions])
        bounds = np.array([wilson(value * n, n) for value in values])
        bars = np.abs(bounds.T - values)
        axes.errorbar(
            positions + shift,
            values,
            yerr=bars,
            fmt=marker,
            color=colour,
            markersize=8,
            capsize=3,
            label=label,
            zorder=3,
        )
    positions = sorted(forced)
    names = [f"{k}\ndecision" if k == decision else str(k) for k in positions]
    axes.set_xticks(positions, names)
    axes.set_xlim(positions[0] - 0.5, positions[-1] + 0.5)
    axes.set_xlabel("position in the path", fontsize=11)
    axes.text(positions[-1] + 0.45, chance + 0.02, "chance", color=GREY, ha="right", va="bottom", fontsize=9)
    axes.set_title(_literal(title) or f"Forced and free accuracy, {n:,} held-out graphs", fontsize=11, loc="left")
    figure.legend(frameon=False, fontsize=9.5, loc="outside lower center", ncols=2)  # within, it would hide low points
    return figure


def learning_curves(
    curve: Sequence[Mapping[str, float]], way: str, decision: int, chance: float, title: str = ""
) -> Figure:
    """Accuracy of every position over training, the decision in vermilion, each line named at its end."""
    start = f"{way}/position_"
    points = [entry for entry in curve if any(name.startswith(start) for name in entry)]
    positions = sorted(int(name[len(start) :]) for name in points[0] if name.startswith(start)) if points else []
    needed = ["step", *(f"{start}{k}" for k in positions)]
    if not points or any(name not in entry for entry in points for name in needed):
        raise ValueError(f"the curve needs evaluations that each have 'step' and {start}k for the same positions k.")
    figure, axes = _axes(6.4, 3.6)
    _accuracy_axis(axes, chance)
    steps = np.array([entry["step"] for entry in points])
    others = iter([SKY, BLUE, GREEN, ORANGE, PURPLE] * len(positions))
    markers = iter("svD^P" * len(positions))
    for k in positions:
        values = np.array([entry[f"{start}{k}"] for entry in points])
        # Lines that lie on one another stay visible: the first drawn are the widest.
        wide = 6.5 - 5.0 * (k - 1) / len(positions)
        colour, marker, width = (VERMILION, "o", 2.6) if k == decision else (next(others), next(markers), wide)
        name = f"{k}, the decision" if k == decision else f"{k}"
        axes.plot(steps, values, color=colour, marker=marker, markersize=4.5, linewidth=width, label=f"position {name}")
    axes.set_xlim(0, max(steps.max() * 1.02, 1))
    axes.set_xlabel("training step", fontsize=11)
    axes.text(steps[-1] * 0.01, chance + 0.02, "chance", color=GREY, ha="left", va="bottom", fontsize=9)
    axes.set_title(_literal(title) or f"What is learnt when ({way} accuracy)", fontsize=11, loc="left")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def side_by_side(groups: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Exact accuracy of several recipes: every seed a dot, their mean a bar with its interval, chance a tick.

    Args:
        groups: each with `name`, `values` (one exact accuracy per seed), `chance` and, if known, `exact_interval` (of the
            mean) and `decision_only` (the values are of the decision), in the order to draw.
    """
    if not groups or not all(len(group["values"]) for group in groups):
        raise ValueError(f"{len(groups)} groups, some without values; each needs one accuracy per seed.")
    figure, axes = _axes(7.2, 0.42 * len(groups) + 1.3)
    rows = np.arange(len(groups))[::-1]
    for row, group in zip(rows, groups, strict=True):
        values = np.asarray(group["values"], dtype=float)
        mean = values.mean()
        solved = mean >= 0.95
        colour = BLUE if solved else VERMILION
        axes.barh(row, mean, height=0.62, color=colour, alpha=0.28, zorder=2)
        axes.plot(
            values,
            row + np.linspace(-0.18, 0.18, len(values)),
            "o",
            color=colour,
            markersize=5,
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
    names = [_literal(group["name"]) + ("*" if group.get("decision_only") else "") for group in groups]
    axes.set_yticks(rows, names, fontsize=9.5)
    axes.set_xlim(0, 1.04)
    axes.set_xticks(np.linspace(0, 1, 5), [f"{tick:.0%}" for tick in np.linspace(0, 1, 5)])
    measured = "exact paths on held-out graphs" + ("; *: the decision alone" if "*" in "".join(names) else "")
    axes.set_xlabel(
        f"{measured}\ndots: seeds, bar: mean, line: its 95 % interval, dashed: chance; blue: solved (mean >= 95 %)",
        fontsize=10,
    )
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(_literal(title), fontsize=11, loc="left")
    return figure


def time_to_solve(groups: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """When each seed of several recipes solves the task: a dot at its step, an open triangle at the end if it never did.

    Args:
        groups: each with `name`, `times` (a step per seed, None for never), `steps` (the budget), `solved`, `seeds`.
    """
    order = sorted(groups, key=lambda g: (-g["solved"] / g["seeds"], g["steps_to_solve"] or np.inf, g["name"]))
    figure, axes = _axes(7.2, 0.42 * len(order) + 1.3)
    rows = np.arange(len(order))[::-1]
    budget = max(group["steps"] for group in order)
    for row, group in zip(rows, order, strict=True):
        spread = row + np.linspace(-0.2, 0.2, len(group["times"]))
        for y, step in zip(spread, group["times"], strict=True):
            solved = step is not None
            look = (
                {"marker": "o", "color": BLUE}
                if solved
                else {"marker": ">", "color": VERMILION, "markerfacecolor": "white"}
            )
            axes.plot(step if solved else group["steps"], y, markersize=6, clip_on=False, zorder=3, **look)
        axes.text(1.03 * budget, row, f"{group['solved']} of {group['seeds']}", va="center", ha="left", fontsize=9.5)
    axes.set_yticks(rows, [_literal(group["name"]) for group in order], fontsize=9.5)
    axes.set_xlim(0, budget)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel(
        "training steps until exact >= 95 % on validation graphs\ndots: seeds, triangles: not solved", fontsize=10
    )
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=11, loc="left")
    return figure


def _literal(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar opens no formula, a line break no line."""
    return " ".join(text.replace("$", r"\$").split())


def path_star(
    edges: Sequence, source: int, goal: int, path: Sequence[int], answer: Sequence[int], title: str = ""
) -> Figure:
    """A path-star graph with a model's answer drawn on it.

    Args:
        edges: pairs (parent, child).
        source, goal, path: of the instance.
        answer: the model's nodes; steps that are no edge are drawn as dashed leaps, unknown nodes are left out.
    """
    places = _places(edges, source, goal)
    rows = sorted({y for _, y in places.values()})
    figure, axes = _axes(6.4, 0.75 * len(rows) + 0.9)
    axes.axis("off")
    for parent, child in edges:
        (x0, y0), (x1, y1) = places[parent], places[child]
        axes.plot([x0, x1], [y0, y1], color="#C8C8C8", linewidth=2, zorder=1)
    _draw_answer(axes, edges, path, answer, places)
    for node, (x, y) in places.items():
        edge = GREEN if node == goal else "black" if node == source else GREY
        axes.plot(x, y, "o", markersize=22, color="white", markeredgecolor=edge, markeredgewidth=2.6, zorder=3)
        axes.text(x, y, str(node), ha="center", va="center", fontsize=10, zorder=4)
    for node, name, colour, side in ((source, "source", "black", -1), (goal, "goal", GREEN, 1)):
        axes.annotate(
            name,
            places[node],
            (side * 18, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=10,
            color=colour,
        )
    verdict = "right" if list(answer) == list(path) else "wrong"
    written = ", ".join("?" if node < 0 else str(node) for node in answer)
    axes.set_title(_literal(title) or f"model's answer: {written}  ({verdict})", fontsize=11, loc="left")
    axes.set_xlim(-0.8, max(x for x, _ in places.values()) + 0.7)
    axes.set_ylim(min(rows) - 0.5, max(rows) + 0.5)
    return figure


def _draw_answer(axes: Axes, edges: Sequence, path: Sequence[int], answer: Sequence[int], places: Mapping) -> None:
    """Arrows from node to node: blue on the right path, vermilion off it, dashed where there is no edge."""
    real = {(int(a), int(b)) for a, b in edges}
    for step in itertools.pairwise(answer):
        if step[0] in places and step[1] in places:
            on_path = step in set(itertools.pairwise(path))
            axes.annotate(
                "",
                xy=places[step[1]],
                xytext=places[step[0]],
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": BLUE if on_path else VERMILION,
                    "linewidth": 2.6,
                    "linestyle": "-" if step in real else (0, (3, 2)),
                    "connectionstyle": "arc3" if step in real else "arc3,rad=0.35",
                    "shrinkA": 12,
                    "shrinkB": 12,
                    "mutation_scale": 16,
                },
                zorder=2,
            )


def _places(edges: Sequence, source: int, goal: int) -> dict[int, tuple[float, float]]:
    """Source at the left, each arm a row; the arm of the goal is at its place among the others, by label."""
    child = {int(a): int(b) for a, b in edges if int(a) != source}
    starts = sorted(int(b) for a, b in edges if int(a) == source)
    places, loops = {int(source): (0.0, 0.0)}, False
    for row, node in enumerate(starts):
        y = (len(starts) - 1) / 2 - row
        x = 1.0
        while node is not None and node not in places:  # each node once, so cycles end, too
            places[node] = (x, y)
            node, x = child.get(node), x + 1.0
        loops = loops or node is not None
    nodes = {int(node) for edge in edges for node in edge} | {int(goal)}
    if loops or not starts or nodes != set(places):
        raise ValueError(
            f"the edges are no arms from source {source} that end apart, or goal {goal} is on none of them; give the "
            "columns of one instance of PathStar."
        )
    return places
