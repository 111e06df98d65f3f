"""A path-star graph with a model's answer drawn on it."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nt_failures.diagnosis.figures.style import BLUE, GREEN, GREY, VERMILION, literal, new_axes


def path_star(
    edges: Sequence,
    source: int,
    goal: int,
    path: Sequence[int],
    answer: Sequence[int],
    title: str = "",
    order: str = "forward",
) -> Figure:
    """A path-star graph with a model's `answer`; steps that are no edge are dashed, unknown nodes are left out.

    `order` is that in which the answer was written: the default title says so of a reversed one.

    Raises:
        ValueError: the edges are no arms from the source that end apart, or the goal is on none.

    Example:
        >>> edges = [[32, 3], [16, 12], [3, 19], [32, 34], [34, 16]]
        >>> figure = path_star(edges, source=32, goal=12, path=[32, 34, 16, 12], answer=[32, 3, 19, 12])
        >>> figure.axes[0].get_title("left")
        "model's answer: 32, 3, 19, 12  (wrong)"
    """
    places = _places(edges, source, goal)
    rows, columns = sorted({y for _, y in places.values()}), max(x for x, _ in places.values())
    gap = min(max(3.6 / len(rows), 0.18), 0.75)  # inches between arms: twenty fit a page
    scale = min(1.0, gap / 0.36, 6.4 / (columns + 1.5) / 0.53)  # of nodes and arrows, which are to keep apart
    verdict = "right" if list(answer) == list(path) else "wrong"
    written = ", ".join("?" if node < 0 else str(node) for node in answer)
    how = ", written from the goal back" if order == "reversed" else ""
    heading = textwrap.wrap(literal(title) or f"model's answer{how}: {written}  ({verdict})", 72)
    figure, axes = new_axes(6.4, gap * len(rows) + 1.0 + 0.18 * len(heading))
    axes.axis("off")
    for parent, child in edges:
        (x0, y0), (x1, y1) = places[parent], places[child]
        axes.plot([x0, x1], [y0, y1], color="#C8C8C8", linewidth=2 * scale, zorder=1)
    _draw_answer(axes, edges, path, answer, places, scale)
    _draw_nodes(axes, source, goal, places, scale)
    axes.set_title("\n".join(heading), fontsize=11, loc="left")
    axes.set_xlim(-0.8, columns + 0.7)
    axes.set_ylim(min(rows) - 0.5, max(rows) + 0.5)
    key = [Line2D([], [], color=colour, linestyle=style, label=name) for name, (colour, style) in STEPS.items()]
    figure.legend(handles=key, frameon=False, fontsize=9.5, loc="outside lower center", ncols=3)
    return figure


DASHED = (0, (3, 2))
STEPS = {
    "on the right path": (BLUE, "-"),
    "off it, along an edge": (VERMILION, "-"),
    "no such edge": (VERMILION, DASHED),
}
"""How the steps of an answer are drawn."""


def _draw_answer(
    axes: Axes, edges: Sequence, path: Sequence[int], answer: Sequence[int], places: Mapping, scale: float
) -> None:
    """Arrows from node to node."""
    real = {(int(a), int(b)) for a, b in edges}
    for step in itertools.pairwise(answer):
        if step[0] in places and step[1] in places:
            right = step in set(itertools.pairwise(path))
            kind = "on the right path" if right else "off it, along an edge" if step in real else "no such edge"
            look = {"arrowstyle": "-|>", "linewidth": 2.6 * scale, "mutation_scale": 16 * scale}
            look |= {"shrinkA": 12 * scale, "shrinkB": 12 * scale}
            look["color"], look["linestyle"] = STEPS[kind]
            look["connectionstyle"] = "arc3" if step in real else "arc3,rad=0.35"
            axes.annotate("", places[step[1]], places[step[0]], arrowprops=look, zorder=2)


def _draw_nodes(axes: Axes, source: int, goal: int, places: Mapping, scale: float) -> None:
    digits = max(len(str(node)) for node in places)
    look = {"markersize": 22 * scale, "color": "white", "markeredgewidth": 2.6 * scale, "zorder": 3}
    for node, (x, y) in places.items():
        edge = GREEN if node == goal else "black" if node == source else GREY
        axes.plot(x, y, "o", markeredgecolor=edge, **look)
        size = scale * (10 if digits < 3 else 25 / digits)
        axes.text(x, y, str(node), ha="center", va="center", fontsize=size, zorder=4)
    for node, name, colour, side in ((source, "source", "black", -1), (goal, "goal", GREEN, 1)):
        look = {"ha": "left" if side > 0 else "right", "va": "center", "fontsize": 10, "color": colour}
        axes.annotate(name, places[node], (side * (5 + 13 * scale), 0), textcoords="offset points", **look)


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
        raise ValueError(f"the edges are no arms from source {source} that end apart, or goal {goal} is on none.")
    return places
