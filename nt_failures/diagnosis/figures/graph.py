"""A path-star graph with a model's answer drawn on it."""

import itertools
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nt_failures.diagnosis.figures.style import BLUE, GREEN, GREY, VERMILION, literal, new_axes


def path_star(
    edges: Sequence, source: int, goal: int, path: Sequence[int], answer: Sequence[int], title: str = ""
) -> Figure:
    """A path-star graph with a model's `answer`; steps that are no edge are dashed, unknown nodes are left out."""
    places = _places(edges, source, goal)
    rows = sorted({y for _, y in places.values()})
    figure, axes = new_axes(6.4, 0.75 * len(rows) + 0.9)
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
        look = {"ha": "left" if side > 0 else "right", "va": "center", "fontsize": 10, "color": colour}
        axes.annotate(name, places[node], (side * 18, 0), textcoords="offset points", **look)
    verdict = "right" if list(answer) == list(path) else "wrong"
    written = ", ".join("?" if node < 0 else str(node) for node in answer)
    axes.set_title(literal(title) or f"model's answer: {written}  ({verdict})", fontsize=11, loc="left")
    axes.set_xlim(-0.8, max(x for x, _ in places.values()) + 0.7)
    axes.set_ylim(min(rows) - 0.5, max(rows) + 0.5)
    return figure


def _draw_answer(axes: Axes, edges: Sequence, path: Sequence[int], answer: Sequence[int], places: Mapping) -> None:
    """Arrows from node to node: blue on the right path, vermilion off it, dashed where there is no edge."""
    real = {(int(a), int(b)) for a, b in edges}
    for step in itertools.pairwise(answer):
        if step[0] in places and step[1] in places:
            look = {"arrowstyle": "-|>", "linewidth": 2.6, "shrinkA": 12, "shrinkB": 12, "mutation_scale": 16}
            look["color"] = BLUE if step in set(itertools.pairwise(path)) else VERMILION
            look["linestyle"] = "-" if step in real else (0, (3, 2))
            look["connectionstyle"] = "arc3" if step in real else "arc3,rad=0.35"
            axes.annotate("", places[step[1]], places[step[0]], arrowprops=look, zorder=2)


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
