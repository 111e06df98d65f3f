"""Figures: what is drawn where, read back from matplotlib's own objects, and files made without a display."""

import collections
import dataclasses
import itertools
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from nt_failures.diagnosis import figures
from nt_failures.evaluation.metrics import Accuracies, Shares
from nt_failures.experiments.study import figures as study_figures
from nt_failures.tasks.facts import Words
from nt_failures.tasks.path_star import PathStar
from nt_failures.tasks.tree_star import TreeStar
from nt_failures.tasks.unequal_star import UnequalStar

# The released data's first graph: arms 32 34 6 16 12 (goal) and 32 3 19 47 28.
GRAPH = {
    "edges": [[32, 3], [16, 12], [3, 19], [32, 34], [34, 6], [6, 16], [19, 47], [47, 28]],
    "source": 32,
    "goal": 12,
    "path": [32, 34, 6, 16, 12],
}
FORCED, FREE = {1: 1.0, 2: 0.5, 3: 0.9}, {1: 1.0, 2: 0.5, 3: 0.6}
WORDS = PathStar().words


def accuracies(n, some=None, rows=None):
    """`FORCED` and `FREE` of n problems, and of `some` at single positions."""
    return Accuracies(n, Shares(0.5, FORCED, some or {}), Shares(0.5, FREE, some or {}), rows=rows)


CURVE = [
    {"step": 100, "forced/position_1": 0.9, "forced/position_2": 0.4, "forced/position_3": 0.1},
    {"step": 150, "loss": 1.0},
    {"step": 200, "forced/position_1": 1.0, "forced/position_2": 0.5, "forced/position_3": 0.8},
]
GROUPS = [
    {"name": "next-token", "values": [0.48, 0.52], "chance": 0.5},
    {"name": "reversed", "values": [0.99, 0.94, 0.98], "chance": 0.5},
    {"name": "three arms", "values": [0.3], "chance": 1 / 3, "some_positions": True},
]


def star(arms, length):
    """A star whose arm a is 100 * a + 1, 100 * a + 2, ..., as the arguments of `figures.path_star`."""
    arm = [[0, *(100 * a + k for k in range(1, length))] for a in range(arms)]
    edges = [edge for nodes in arm for edge in itertools.pairwise(nodes)]
    return {"edges": edges, "source": 0, "goal": arm[0][-1], "path": arm[0]}


UNEQUAL, STAR = UnequalStar(2, (4, 6), 2, 12), "6,4|3,0|7,3|8,5|0,8|1,3|3,6/7,5="  # 7>3>0>8>5 and 1>3>6>4


def shown(task, answered=1):
    """The first test graph of a task, with the way of that one, or of the next, as the answer."""
    rows = [{name: v[i].tolist() for name, v in task.block(0, "test", 0, rows=2).items()} for i in (0, 1)]
    return vars(task.picture(rows[0], rows[answered]["path"]))


LONG = {k: 1.0 for k in range(1, 21)}
ALL = {
    "forced_vs_free": lambda: figures.forced_vs_free(accuracies(1000), 2, 0.5, WORDS),
    "learning_curves": lambda: figures.learning_curves(CURVE, "forced", 2, 0.5),
    "a decision that moves": lambda: figures.forced_vs_free(accuracies(1000), None, 0.5, WORDS, "reversed"),
    "curves, and it moves": lambda: figures.learning_curves(CURVE, "forced", None, 0.5, "reversed"),
    "side_by_side": lambda: study_figures.side_by_side(GROUPS, "a study"),
    "path_star": lambda: figures.path_star(**GRAPH, answer=[32, 3, 19, 47, 12]),
    "reversed": lambda: figures.path_star(**GRAPH, answer=[32, 3, 19, 47, 12], order="reversed"),
    "twenty arms": lambda: figures.path_star(**star(20, 5), answer=[0, 301, 302, 303, 4]),
    "long arms": lambda: figures.path_star(**star(2, 20), answer=star(2, 20)["path"]),
    "unequal": lambda: figures.path_star(**vars(UNEQUAL.picture(UNEQUAL.parse(STAR + "7,3,0,8,5"), [7, 3, 6, 4]))),
    "a tree": lambda: figures.path_star(**shown(TreeStar())),
    "a large tree": lambda: figures.path_star(**shown(TreeStar(5, 2, 7, 400), answered=0)),
    "long curves": lambda: figures.learning_curves(
        [{"step": 1} | {f"free/position_{k}": share for k, share in LONG.items()}], "free", 19, 0.5, "reversed"
    ),
}


def axes_of(figure):
    (axes,) = figure.axes
    return axes


def dashed(line):
    return line.get_linestyle() == "--"


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", ALL)
def test_files_have_a_readable_size(name, tmp_path):
    """Catches: a figure of no or of monstrous size, an empty one, text cut off at its edge, the version of
    matplotlib."""
    figure = ALL[name]()
    path = tmp_path / "figure.png"
    figures.save(figure, path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert b"atplotlib" not in data  # the same picture has the same bytes
    width, height = struct.unpack(">II", data[16:24])
    assert 900 <= width <= 1300
    assert 300 <= height <= 800
    pixels = imread(path)
    assert pixels.shape[:2] == (height, width)
    assert len(np.unique(pixels[::4, ::4].reshape(-1, pixels.shape[2]), axis=0)) > 10
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (border == 1).all()  # nothing runs out of the figure


def test_no_display_is_needed(tmp_path):
    """Catches: pyplot, which opens a window system and keeps every figure in memory."""
    code = (
        "import sys; from nt_failures.diagnosis.figures import save\nfrom nt_failures.experiments.study.figures "
        "import side_by_side\nsave(side_by_side([{'name': 'a', 'values': [0.5], 'chance': 0.5}]), 'f.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"} | {"MPLBACKEND": "tkagg"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)
    assert (tmp_path / "f.png").stat().st_size > 5000


# ---------------------------------------------------------------- accuracy


def test_forced_vs_free_draws_shares_intervals_and_chance():
    """Catches: the two ways swapped, intervals of one n for all sizes, chance drawn at a fixed half."""
    axes = axes_of(figures.forced_vs_free(accuracies(100), 2, 1 / 3, WORDS))
    for container, shares in zip(axes.containers, (FORCED, FREE), strict=True):
        points, _, (bars,) = container.lines
        assert points.get_ydata().tolist() == list(shares.values())
        assert np.round(points.get_xdata()).tolist() == list(shares)
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        assert ends[1] == pytest.approx([0.4038, 0.5962], abs=1e-4)  # Wilson, 50 of 100
        assert ends[0] == pytest.approx([0.9630, 1.0], abs=1e-4)
    assert [container.get_label().split(":")[0] for container in axes.containers] == ["forced", "free"]
    (chance,) = [line for line in axes.lines if dashed(line)]
    assert chance.get_ydata() == pytest.approx([1 / 3, 1 / 3])
    assert "chance" in [text.get_text() for text in axes.texts]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2\ndecision", "3"]
    assert axes.get_xlabel() == "position in the path"
    assert axes.get_title(loc="left") == "Forced and free accuracy, 100 held-out graphs"


def test_a_task_without_decision_in_its_own_words():
    """Catches: a sum told about paths and graphs, a decision or its chance drawn where there is none, rows called
    different that nobody has compared; bars of all problems at a position that 10 of them have."""
    words = Words("sum", "result", "slip")
    figure = figures.forced_vs_free(accuracies(100, {2: 10}, rows=120), None, None, words)
    axes = axes_of(figure)
    assert axes.get_xlabel() == "position in the result"
    assert axes.get_title(loc="left") == "Forced and free accuracy, 100 different held-out sums"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert [line for line in axes.lines if dashed(line)] == list(axes.texts) == []
    for container in axes.containers:
        _, _, (bars,) = container.lines
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        assert ends[1] == pytest.approx([0.2366, 0.7634], abs=1e-4)  # Wilson, 5 of 10
        assert ends[0] == pytest.approx([0.9630, 1.0], abs=1e-4)
    curves = axes_of(figures.learning_curves(CURVE, "forced", None, None))
    assert [line for line in curves.lines if dashed(line)] == list(curves.texts) == []
    assert not any("decision" in line.get_label() for line in curves.lines)


def test_the_chance_of_a_decision_that_moves_is_no_line():
    """Catches: the chance of some rows at some of the positions drawn through all of them, as if a look-up at 53 % were
    guessed; a chance that nobody is told."""
    both = {
        "position in the path": figures.forced_vs_free(accuracies(100), None, 10 / 19, WORDS),
        "training step": figures.learning_curves(CURVE, "forced", None, 10 / 19),
    }
    for name, figure in both.items():
        axes = axes_of(figure)
        assert [line for line in axes.lines if dashed(line)] == list(axes.texts) == []
        assert axes.get_xlabel() == f"{name}\nchance at the decision, whose position differs: 52.6 %"


def test_learning_curves_draw_every_position():
    """Catches: losses drawn as evaluations, the decision in another line's colour, a line without its name."""
    axes = axes_of(figures.learning_curves(CURVE, "forced", 2, 0.25))
    lines = {line.get_label(): line for line in axes.lines if line.get_label().startswith("position")}
    assert list(lines) == ["position 1", "position 2, the decision", "position 3"]
    assert [line.get_ydata().tolist() for line in lines.values()] == [[0.9, 1.0], [0.4, 0.5], [0.1, 0.8]]
    assert all(line.get_xdata().tolist() == [100, 200] for line in lines.values())
    vermilion = [name for name, line in lines.items() if line.get_color() == figures.VERMILION]
    assert vermilion == ["position 2, the decision"]
    (chance,) = [line for line in axes.lines if dashed(line)]
    assert chance.get_ydata() == pytest.approx([0.25, 0.25])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(lines)


@pytest.mark.parametrize(("count", "decision"), [(6, 2), (12, None), (12, 12), (100, 51)])
def test_many_positions_are_rows_of_shades(count, decision):
    """Catches: lines of more positions than there are colours, rows upside down or in another's shade, a step at
    another place, a decision or a chance that cannot be found, names that overlap."""
    curve = [
        {"step": s} | {f"free/position_{k}": s * k / (500 * count) for k in range(1, count + 1)}
        for s in (100, 200, 500)
    ]
    axes, bar = figures.learning_curves(curve, "free", decision, 0.5).axes
    (cells,) = (found for found in axes.collections if found.get_array() is not None)
    expected = [[entry[f"free/position_{k}"] for entry in curve] for k in range(1, count + 1)]
    assert cells.get_array().tolist() == expected
    assert cells.get_clim() == (0, 1)
    corners = cells.get_coordinates()
    assert corners[0, :, 0].tolist() == [0, 150, 350, 500]  # each evaluation amid its cell
    assert axes.yaxis_inverted()
    names = [name.get_text() for name in axes.get_yticklabels()]
    assert len(names) == {6: 6, 12: 12, 100: 33}[count]
    assert [name.split(",")[0] for name in names] == [str(row + 1) for row in axes.get_yticks()]
    red = [name.get_text() for name in axes.get_yticklabels() if name.get_color() == figures.VERMILION]
    assert red == [name for name in names if "decision" in name]
    assert red == [f"{decision}, the decision"] * (decision is not None)
    assert [line.get_ydata()[0] for line in bar.lines] == [0.5] * (decision is not None)
    assert ("whose position differs: 50.0 %" in axes.get_xlabel()) == (decision is None)


def test_five_positions_are_lines_of_their_own():
    """Catches: two lines in one colour."""
    curve = [{"step": 1} | {f"free/position_{k}": k / 5 for k in range(1, 6)}]
    for decision in (2, None):
        lines = axes_of(figures.learning_curves(curve, "free", decision, None)).lines
        assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 5


def test_side_by_side_draws_every_seed():
    """Catches: groups upside down, one chance for all, a mean without its seeds."""
    axes = axes_of(study_figures.side_by_side(GROUPS, "a study"))
    bars = [
        (round(bar.get_y() + bar.get_height() / 2), bar.get_width(), to_hex(bar.get_facecolor()))
        for bar in axes.patches
    ]
    assert [(row, pytest.approx(mean)) for row, mean, _ in bars] == [(2, 0.5), (1, 0.97), (0, 0.3)]
    assert {colour for _, _, colour in bars} == {figures.VERMILION.lower()}  # blue is solved, by every seed
    (bar,) = axes_of(study_figures.side_by_side([GROUPS[1] | {"values": [0.99, 0.95]}], "a study")).patches
    assert to_hex(bar.get_facecolor()) == figures.BLUE.lower()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["next-token", "reversed", "three arms*"]
    assert "*: the worst of the positions trained" in axes.get_xlabel()
    assert [dots.get_offsets()[:, 0].tolist() for dots in axes.collections] == [group["values"] for group in GROUPS]
    shades = [[to_hex(colour) for colour in dots.get_facecolors()] for dots in axes.collections]
    blue, red = figures.BLUE.lower(), figures.VERMILION.lower()
    assert shades == [[red, red], [blue, red, blue], [red]]  # each seed for itself
    ticks = [line for line in axes.lines if dashed(line)]
    assert [line.get_xdata()[0] for line in ticks] == [group["chance"] for group in GROUPS]
    assert [text.get_text() for text in axes.texts] == ["50.0%", "97.0%", "30.0%"]


def test_a_study_of_many_recipes_has_a_look_for_each():
    """Catches: the seventh line in the colour and with the marker of the first."""
    groups = [{"name": str(i), "by_difficulty": {"hops": {1: 1.0, 2: 0.5}}} for i in range(24)]
    lines = axes_of(study_figures.by_difficulty(groups, "hops")).lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 24


# ---------------------------------------------------------------- graphs


def places(axes):
    """Label -> (x, y) of the nodes drawn."""
    return {int(text.get_text()): text.get_position() for text in axes.texts if text.get_text().isdigit()}


def star_of(line):
    """What is drawn of a graph of `UNEQUAL`."""
    row = UNEQUAL.parse(line)
    return UNEQUAL.picture({**row, "path": [row["source"], row["goal"]]}, [])


def named(axes):
    """Name -> (node, on which side of it) of the names beside nodes."""
    node_at = {place: node for node, place in places(axes).items()}
    notes = [text for text in axes.texts if getattr(text, "xyann", None) is not None and text.get_text()]
    side = {(-1, 0): "before", (1, 0): "behind", (0, 1): "above"}
    return {note.get_text(): (node_at[tuple(note.xy)], side[tuple(np.sign(note.xyann))]) for note in notes}


def steps(axes):
    """(from, to, colour, whether an edge) of each arrow, read from its ends."""
    node_at = {place: node for node, place in places(axes).items()}
    found = []
    for note in axes.texts:
        if note.get_text() == "" and note.arrow_patch is not None:
            arrow = note.arrow_patch
            solid = arrow.get_linestyle() in ("-", "solid")
            found.append((node_at[note.xyann], node_at[tuple(note.xy)], to_hex(arrow.get_edgecolor()).upper(), solid))
    return found


def test_graph_draws_each_node_once_on_its_arm():
    """Catches: labels drawn twice or left out, arms that cross, source and goal not named."""
    axes = axes_of(figures.path_star(**GRAPH, answer=GRAPH["path"]))
    labels = collections.Counter(text.get_text() for text in axes.texts if text.get_text().isdigit())
    assert labels == {str(node): 1 for node in (32, 34, 6, 16, 12, 3, 19, 47, 28)}
    at = places(axes)
    assert at[32] == (0.0, 0.0)
    assert [at[node] for node in (34, 6, 16, 12)] == [(x, -0.5) for x in (1.0, 2.0, 3.0, 4.0)]
    assert [at[node] for node in (3, 19, 47, 28)] == [(x, 0.5) for x in (1.0, 2.0, 3.0, 4.0)]
    names = [(text.get_text().strip(), tuple(text.xy)) for text in axes.texts if text.get_text().strip().isalpha()]
    assert names == [("source", at[32]), ("goal", at[12])]
    lines = {frozenset(zip(*line.get_data(), strict=True)) for line in axes.lines if len(line.get_xdata()) == 2}
    assert lines == {frozenset((at[a], at[b])) for a, b in GRAPH["edges"]}


def test_arms_go_through_the_centre():
    """Catches: a source at the left edge of arms that go on to its left, stems drawn behind the centre, two stems in
    one row; the name of a source on the edges that lead to it."""
    axes = axes_of(figures.path_star(**vars(star_of(STAR))))
    assert places(axes) == {
        **{1: (-1, 0.5), 7: (-1, -0.5), 3: (0, 0)},
        **{0: (1, 0.5), 8: (2, 0.5), 5: (3, 0.5), 6: (1, -0.5), 4: (2, -0.5)},
    }
    assert named(axes) == {"source": (7, "before"), "goal": (5, "behind")}
    centred = star_of("6,4|3,0|8,5|0,8|1,3|3,6/3,5=")
    assert named(axes_of(figures.path_star(**vars(centred)))) == {"source": (3, "above"), "goal": (5, "behind")}


def test_trees_branch():
    """Catches: a second child drawn over the first, a parent beside its children, dots where nothing is left out."""
    tree = TreeStar(2, 2, 3, 10)
    star = tree.picture(tree.parse("9,4|5,0|0,2|5,9|9,1|0,7/5,1=5,9,1"), [5, 9, 1])  # 5 > (0 > (2, 7), 9 > (1, 4))
    axes = axes_of(figures.path_star(**vars(star)))
    assert places(axes) == {
        **{5: (0, 0), 0: (1, 1), 9: (1, -1)},
        **{2: (2, 1.5), 7: (2, 0.5), 1: (2, -0.5), 4: (2, -1.5)},
    }
    assert named(axes) == {"source": (5, "before"), "goal": (1, "behind")}
    cut = figures.path_star(**vars(dataclasses.replace(star, edges=[(5, 0), (5, 9), (9, 1), (9, 4)], cut={0})))
    assert named(axes_of(cut)) == {"source": (5, "before"), "goal": (1, "behind"), "...": (0, "behind")}


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ([(0, 1), (0, 2), (1, 3), (2, 3), (3, 0)], "two ways lead to node|no star and no tree"),  # a circle
        ([(0, 1), (0, 2), (4, 5)], "no star and no tree"),  # in two pieces
        ([(0, 1), (0, 2), (1, 4), (2, 4), (4, 6), (1, 6)], "two ways lead to node|no star and no tree"),
    ],
)
def test_what_is_no_star(edges, reason):
    """Catches: a loop without end, nodes that are left out."""
    with pytest.raises(ValueError, match=reason):
        figures.path_star(edges, 0, 2, [0, 2], [0, 2])


def test_the_graph_has_a_key():
    """Catches: colours and dashes that a reader has to guess."""
    figure = figures.path_star(**GRAPH, answer=GRAPH["path"])
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [
        "on the right path",
        "off it, along an edge",
        "no such edge",
    ]
    assert [line.get_color() for line in key.get_lines()] == [figures.BLUE, figures.VERMILION, figures.VERMILION]
    assert [line.get_linestyle() for line in key.get_lines()] == ["-", "-", "--"]


def test_nodes_keep_apart():
    """Catches: nodes that lie on one another where arms are many or long."""
    stars = [{**star(arms, length), "answer": [0]} for arms, length in ((2, 5), (20, 5), (2, 20), (20, 20))]
    tasks = [task(**sizes) for task in (TreeStar, UnequalStar) for sizes in task.CONFIGS.values()]
    for drawn in (*stars, *map(shown, tasks)):
        figure = figures.path_star(**drawn)
        figure.draw_without_rendering()
        axes = axes_of(figure)
        at = axes.transData.transform(list(places(axes).values())) * 72 / figure.dpi  # points
        nearest = min(np.linalg.norm(at - here, axis=1)[np.arange(len(at)) != i].min() for i, here in enumerate(at))
        assert nearest > max(line.get_markersize() for line in axes.lines if line.get_marker() == "o")


def test_reversed_order_is_said():
    """Catches: a decision at the last position but one that a reader takes for the last but one that was written."""
    back = "(written from the last to the first)"
    for order, said in (("forward", False), ("reversed", True)):
        accuracy = axes_of(figures.forced_vs_free(accuracies(9), 2, 0.5, WORDS, order)).get_xlabel()
        learning = axes_of(figures.learning_curves(CURVE, "forced", 2, 0.5, order)).get_title(loc="left")
        graph = axes_of(figures.path_star(**GRAPH, answer=GRAPH["path"], order=order)).get_title(loc="left")
        assert [back in accuracy, back in learning, "written from the goal back" in graph] == [said] * 3


ARROWS = {
    "right": ([32, 34, 6, 16, 12], ["32>34 right", "34>6 right", "6>16 right", "16>12 right"], "(right)"),
    "wrong arm, then the goal": (
        [32, 3, 19, 47, 12],
        ["32>3 wrong", "3>19 wrong", "19>47 wrong", "47>12 leap"],
        "32, 3, 19, 47, 12  (wrong)",
    ),
    "back on the path": ([32, 3, 6, 16, 12], ["32>3 wrong", "3>6 leap", "6>16 right", "16>12 right"], "(wrong)"),
    "unknown nodes": ([32, 34, -1, 16, 12], ["32>34 right", "16>12 right"], "32, 34, ?, 16, 12  (wrong)"),
    "nodes of no graph": ([32, 34, 6, 99, 12], ["32>34 right", "34>6 right"], "32, 34, 6, 99, 12  (wrong)"),
    "backwards": ([12, 16, 6, 34, 32], ["12>16 leap", "16>6 leap", "6>34 leap", "34>32 leap"], "(wrong)"),
    "stuck": ([32, 32, 32, 32, 32], ["32>32 leap"] * 4, "(wrong)"),
    "nothing": ([-1] * 5, [], "?, ?, ?, ?, ?  (wrong)"),
    "too short": ([32, 34], ["32>34 right"], "(wrong)"),
}


@pytest.mark.parametrize("case", ARROWS)
def test_answers_are_drawn_with_their_errors(case):
    """Catches: a wrong step drawn as right, a leap drawn as an edge, a crash on an answer that is no path."""
    answer, expected, title = ARROWS[case]
    figure = figures.path_star(**GRAPH, answer=answer)
    kinds = {(figures.BLUE, True): "right", (figures.VERMILION, True): "wrong", (figures.VERMILION, False): "leap"}
    assert [f"{a}>{b} {kinds[colour, solid]}" for a, b, colour, solid in steps(axes_of(figure))] == expected
    assert axes_of(figure).get_title(loc="left").endswith(title)
    figure.draw_without_rendering()


@pytest.mark.parametrize("arms", [1, 5])
def test_graphs_of_other_shapes(arms):
    """Catches: a layout made for two arms."""
    edges = [edge for arm in range(arms) for edge in ((0, 10 + arm), (10 + arm, 20 + arm))]
    axes = axes_of(figures.path_star(edges, 0, 20, [0, 10, 20], answer=[0, 10, 20]))
    at = places(axes)
    assert len(set(at.values())) == len(at) == 1 + 2 * arms
    assert all(at[10 + arm][1] == at[20 + arm][1] for arm in range(arms))
    assert sum(y for _, y in at.values()) == pytest.approx(0)
