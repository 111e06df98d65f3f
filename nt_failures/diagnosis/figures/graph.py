"""A star or a tree with a model's answer drawn on it."""

import itertools
import textwrap
from collections.abc import Collection, Mapping, Sequence

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
    cut: Collection[int] = (),
    note: str = "",
    right: bool | None = None,
    title: str = "",
    order: str = "forward",
) -> Figure:
    """A star or a tree with a model's `answer`; steps that are no edge are dashed, unknown nodes are left out.

    Args:
        edges, source, goal, path, answer, cut, note, right: as in a `Star`; edges lead from left to right.
        title: in place of the answer in words.
        order: that in which the answer was written: the default title says so of a reversed one.

    Raises:
        ValueError: edges that lead in a circle, or a goal that is on none.

    Example:
        >>> edges = [[32, 3], [16, 12], [3, 19], [32, 34], [34, 16]]
        >>> figure = path_star(edges, source=32, goal=12, path=[32, 34, 16, 12], answer=[32, 3, 19, 12])
        >>> figure.axes[0].get_title("left")
        "model's answer: 32, 3, 19, 12  (wrong)"
    """
    places = _places(edges, source, goal)
    (first, last), (low, high) = ((min(along), max(along)) for along in zip(*places.values(), strict=True))
    rows, columns = high - low + 1, last - first
    gap = min(max(3.6 / rows, 0.18), 0.75)  # inches between arms: twenty fit a page
    scale = min(1.0, gap / 0.36, 6.4 / (columns + 1.5) / 0.53)  # of nodes and arrows, which are to keep apart
    verdict = "right" if (list(answer) == list(path) if right is None else right) else "wrong"
    written = ", ".join("?" if node < 0 else str(node) for node in answer)
    how = ", written from the goal back" if order == "reversed" else ""
    heading = textwrap.wrap(literal(title) or f"model's answer{how}: {written}  ({verdict})", 72)
    heading += textwrap.wrap(literal(note), 72)
    figure, axes = new_axes(6.4, gap * rows + 1.0 + 0.18 * len(heading))
    axes.axis("off")
    for parent, child in edges:
        (x0, y0), (x1, y1) = places[parent], places[child]
        axes.plot([x0, x1], [y0, y1], color="#C8C8C8", linewidth=2 * scale, zorder=1)
    _draw_answer(axes, edges, path, answer, places, scale)
    _draw_nodes(axes, places, scale, {source: "black", goal: GREEN})
    _name_nodes(axes, edges, source, goal, cut, places, 5 + 13 * scale)
    axes.set_title("\n".join(heading), fontsize=11, loc="left")
    axes.set_xlim(first - 0.8, last + 0.7)
    axes.set_ylim(low - 0.5, high + 0.5)
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


def _draw_nodes(axes: Axes, places: Mapping, scale: float, colours: Mapping[int, str]) -> None:
    digits = max(len(str(node)) for node in places)
    look = {"markersize": 22 * scale, "color": "white", "markeredgewidth": 2.6 * scale, "zorder": 3}
    for node, (x, y) in places.items():
        axes.plot(x, y, "o", markeredgecolor=colours.get(node, GREY), **look)
        size = scale * (10 if digits < 3 else 25 / digits)
        axes.text(x, y, str(node), ha="center", va="center", fontsize=size, zorder=4)


def _name_nodes(
    axes: Axes, edges: Sequence, source: int, goal: int, cut: Collection[int], places: Mapping, away: float
) -> None:
    """`source` before its node, above it where edges lead there, `goal` behind its node, and dots behind a cut one."""
    before, behind, above = (
        {"xytext": (-away, 0), "ha": "right", "va": "center"},
        {"xytext": (away, 0), "ha": "left", "va": "center"},
        {"xytext": (0, away + 3), "ha": "center", "va": "center", "bbox": {"color": "white", "pad": 1}, "zorder": 5},
    )
    first = above if any(head == source for _, head in edges) else before
    names = [(source, "source", "black", first), (goal, "goal", GREEN, behind)]
    names += [(node, "...", GREY, behind) for node in cut]
    for node, name, colour, where in names:
        axes.annotate(name, places[node], textcoords="offset points", fontsize=10, color=colour, **where)


def _places(edges: Sequence, source: int, goal: int) -> dict[int, tuple[float, float]]:
    """The centre, to which several edges lead, or else the source; what leads to it at its left, the rest at its right.

    Children stand in the order of their labels, each leaf in a row of its own, every other node amid its children.
    """
    after: dict[int, list[int]] = {}
    before: dict[int, list[int]] = {}
    for a, b in edges:
        after.setdefault(int(a), []).append(int(b))
        before.setdefault(int(b), []).append(int(a))
    centre = next((node for node, parents in before.items() if len(parents) > 1), int(source))
    right, left = _side(after, centre, 1.0), _side(before, centre, -1.0)
    if {*right, *left} != {*after, *before, int(source), int(goal)} or {*right} & {*left} != {centre}:
        raise ValueError(f"the edges are no star and no tree of which source {source} and goal {goal} are nodes.")
    return right | left


def _side(next_to: Mapping[int, list[int]], centre: int, step: float) -> dict[int, tuple[float, float]]:
    """The tree that hangs at the centre, which is (0, 0)."""
    found, waiting = {}, [(centre, 0.0)]
    while waiting:
        node, x = waiting.pop()
        if node in found:
            raise ValueError(f"two ways lead to node {node}, or a circle; give the edges of a star or of a tree.")
        found[node] = x
        waiting += [(other, x + step) for other in sorted(next_to.get(node, ()), reverse=True)]
    leaves = [node for node in found if node not in next_to]
    heights = {node: (len(leaves) - 1) / 2 - row for row, node in enumerate(leaves)}
    for node in reversed(found):  # children stand behind their parents
        others = [heights[other] for other in next_to.get(node, ())]
        heights.setdefault(node, sum(others) / max(len(others), 1))
    return {node: (x, heights[node] - heights[centre]) for node, x in found.items()}
