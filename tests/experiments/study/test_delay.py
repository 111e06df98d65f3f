"""The map of delays: what a run says, medians and ratios with censored runs, growth, and the figure that shows which is
which."""

import dataclasses
import math

import numpy as np
import pytest
from study_records import record

from nt_failures.experiments.study import delay
from nt_failures.experiments.study import figures as study_figures
from nt_failures.experiments.study.results_file import StudyRun


def run(objective="next_token", solved_at=500, graph=(2, 3, 7), optimizer="muon", seed=0, budget=4000, flops=2.0):
    """A run on G(degree, path_length) with so many labels; `solved_at` None for never."""
    degree, length, labels = graph
    before = budget if solved_at is None else solved_at - 100
    name = f"deg{degree}-path{length}-nodes{labels}"
    sizes = {"node of the path": length, "arm": degree, "doubling of the labels": math.log2(labels)}
    return delay.Run(
        *(name, objective, optimizer, seed, sizes, before),
        solved_at=math.inf if solved_at is None else solved_at,
        flops_per_step=flops,
    )


def runs(*times, **changes):
    return [run(solved_at=time, seed=seed, **changes) for seed, time in enumerate(times)]


@pytest.mark.parametrize(
    ("curve", "before", "solved_at"),
    [
        ([(100, 0.5), (200, 0.97), (300, 0.99)], 100, 200),
        ([(100, 0.5), (200, 0.97), (300, 0.5), (400, 0.96)], 300, 400),  # solved for a moment is not solved
        ([(100, 0.97)], 0, 100),
        ([(100, 0.5), (200, 0.6)], 200, math.inf),
    ],
)
def test_what_a_run_says(curve, before, solved_at):
    """Catches: the budget of a censored run lost, the first moment above the threshold taken for the time."""
    task = {"task": {"degree": 3, "path_length": 4, "num_nodes": 10}}
    made = record(curve=curve, steps=400, flops=8e9)
    made["arguments"] |= task
    seen = delay.observe(StudyRun.from_json(made), "a graph", "an objective", "an optimizer")
    assert (seen.before, seen.solved_at, seen.flops_per_step) == (before, solved_at, 2e7)
    assert seen.sizes == {"node of the path": 4, "arm": 3, "doubling of the labels": math.log2(10)}
    assert seen.problem == "a graph"


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([300, 500, 400], (400, True)),
        ([300, None, 400], (400, True)),  # the median is known although a run is not
        ([300, None, None], (4000, False)),
        ([None, None, None], (4000, False)),
        ([300, 500], (400, True)),
        ([300, None], (2100, False)),  # halfway between 300 and something above 4,000
    ],
)
def test_medians_of_runs_that_may_be_censored(times, expected):
    """Catches: censored runs left out, which makes the slower objective the faster one."""
    assert delay.median(runs(*times)) == expected
    assert delay.median(runs(*times, flops=3.0), flops=True) == (3 * expected[0], expected[1])


def test_flops_are_those_of_each_run():
    """Catches: the FLOPs of a step of the first run taken for those of all."""
    made = [run(solved_at=300, flops=2.0), run(solved_at=400, seed=1, flops=4.0)]
    assert delay.median(made, flops=True) == (1100.0, True)


@pytest.mark.parametrize(
    ("slow", "fast", "expected"),
    [
        ([900, 800, 1000], [300, 300, 400], (3.0, "=")),
        ([900, None, None], [400, 500, 400], (10.0, ">")),
        ([900, 900, 900], [None, None, 300], (0.225, "<")),
        ([None, None, 300], [None, None, None], None),
    ],
)
def test_ratios_are_bounds_where_one_side_is_censored(slow, fast, expected):
    """Catches: a bound said to be the ratio, or the wrong way round; a division by the 0 steps of a run that nobody
    looked at."""
    assert delay.ratio(runs(*slow), runs(*fast)) == expected
    unseen = [dataclasses.replace(each, before=0, solved_at=math.inf) for each in runs(*fast)]
    assert delay.ratio(runs(900, 900, 900), unseen) is None


def grown(objective, per_node, graphs=((2, 3, 7), (2, 4, 7), (2, 5, 7), (3, 3, 7), (2, 3, 14)), budget=10**9):
    """Three runs a graph: 1,000 steps on the first, times `per_node` for each node more, 1.5 for an arm, 2 for twice
    the labels."""
    made = []
    for degree, length, labels in graphs:
        time = 1000 * per_node ** (length - 3) * 1.5 ** (degree - 2) * labels / 7
        for seed, luck in enumerate((0.8, 1.0, 1.25)):
            at = math.ceil(time * luck / 100) * 100
            made.append(
                run(objective, at if at <= budget else None, (degree, length, labels), seed=seed, budget=budget)
            )
    return made


def test_growth_by_factor():
    """Catches: factors of one thing shown under another's name, logarithms not undone, censored lengths that flatten
    the growth."""
    for budget in (10**9, 5000):
        effects = delay.growth(grown("next_token", 3, budget=budget))
        assert {name: math.exp(logs[0]) for name, logs in effects.items()} == {
            "node of the path": pytest.approx(3, rel=0.15),
            "arm": pytest.approx(1.5, rel=0.1),
            "doubling of the labels": pytest.approx(2, rel=0.1),
        }


def test_growth_that_nobody_has_seen():
    """Catches: a growth with the path from graphs of one solved length, however many censored ones stand beside
    them."""
    effects = delay.growth(grown("next_token", 30, budget=4000))
    assert set(effects) == {"arm", "doubling of the labels"}
    assert math.exp(effects["arm"][0]) == pytest.approx(1.5, rel=0.1)
    assert delay.growth(grown("next_token", 3, graphs=[(2, 3, 7)])) == {}
    assert delay.growth(runs(None, None, None)) == {}


def test_the_lucky_few_do_not_tell_the_growth():
    """Catches: x 1.2 for each node, read off the one of three runs that solves the longer paths, where the time grows
    3-fold; half of the runs solved at a size is enough."""
    made = grown("next_token", 3, graphs=[(2, 3, 7), (3, 3, 7), (2, 3, 14), (2, 4, 7), (2, 5, 7)])
    lucky = [
        run(solved_at=1200 if seed == 0 else None, graph=(2, path, 7), seed=seed)
        for path in (4, 5)
        for seed in range(3)
    ]
    few = [each for each in made if each.sizes["node of the path"] == 3] + lucky
    assert set(delay.growth(few)) == {"arm", "doubling of the labels"}
    half = [run(solved_at=3000 if seed < 2 else None, graph=(2, 4, 7), seed=seed) for seed in range(4)]
    assert set(delay.growth(few[:9] + half)) == {"node of the path", "arm", "doubling of the labels"}


def ranged(made):
    """The same runs, of a problem whose arms are a range: `Task.factors` then names none."""
    sizes = {name: size for name, size in made[0].sizes.items() if name != "arm"}
    return [dataclasses.replace(each, problem="deg2_5-path3-nodes14", sizes=sizes) for each in made]


def test_ranges_beside_numbers():
    """Catches: a KeyError for a problem whose size is a range; the growth with the path read off it, although nobody
    knows what its arms add; a problem that is lost from the table."""
    plain, mixed = grown("next_token", 3), ranged(runs(900, 1100, 1300, graph=(2, 3, 14)))
    for made in (plain + mixed, mixed + plain):
        text = delay.markdown(made, "next_token")
        cells, growth = (part.split("\n\n")[0] for part in (text, text[text.index("| time of") :]))
        assert "| deg2_5-path3-nodes14 | muon | next_token | 3 of 3 | 1,100 |" in cells
        assert growth.splitlines()[2:] == delay.markdown(plain, "next_token").split("\n\n")[2].splitlines()[2:]
        problems = [problem for (problem,) in delay.by(made, "problem")]
        assert problems[2:5] == ["deg3-path3-nodes7", "deg2_5-path3-nodes14", "deg2-path4-nodes7"]
        study_figures.delays(made, "next_token").draw_without_rendering()
    assert delay.markdown(mixed, "next_token").count("not identified") >= 1
    others = [dataclasses.replace(each, sizes={"arm": 2}) for each in mixed]
    assert "| next_token | muon | 0 of 0 | not identified | not identified |" in delay.markdown(mixed + others, "a")


def test_no_figure_without_an_interval():
    """Catches: a growth read off one run a graph, of which nobody knows how far luck has made it."""
    made = [each for each in grown("next_token", 3) if each.seed == 0]
    assert delay.growth(made)
    assert "| next_token | muon | 5 of 5 | not identified | not identified | not identified |" in delay.markdown(
        made, "x"
    )


def test_no_interval_where_one_graph_has_one_run():
    """Catches: an interval without width for the factor that only this graph tells, as a map that was stopped half-way
    has it."""
    made = grown("next_token", 3)
    graphs = sorted({each.problem for each in made})
    stopped = [each for each in made if each.problem != graphs[-1] or each.seed == 0]
    assert "| next_token | muon | 15 of 15 | x " in delay.markdown(made, "x")
    unknown = "not identified | not identified | not identified |"
    assert f"| next_token | muon | 13 of 13 | {unknown}" in delay.markdown(stopped, "x")


def test_tables_say_what_is_a_bound_and_what_is_not_known():
    """Catches: a censored median without its sign, a ratio of two growths where one is unknown."""
    text = delay.markdown(grown("next_token", 30, budget=4000) + grown("cure", 1.2), "next_token")
    lines = text.splitlines()
    assert "| deg2-path3-nodes7 | muon | next_token | 3 of 3 | 1,000 | 2.0e+03 | - | - |" in lines
    assert "| deg2-path3-nodes7 | muon | cure | 3 of 3 | 1,000 | 2.0e+03 | 1.0 x | 1.0 x |" in lines
    assert "| deg2-path4-nodes7 | muon | next_token | 0 of 3 | > 4,000 | > 8.0e+03 | - | - |" in lines
    assert "| deg2-path4-nodes7 | muon | cure | 3 of 3 | 1,200 | 2.4e+03 | > 3.3 x | > 3.3 x |" in lines
    (own,) = [line for line in lines if line.startswith("| next_token | muon | 9 of 15 | not identified | x 1.5 [")]
    (both,) = [line for line in lines if line.startswith("| next_token / cure | muon |  | not identified | x 1.00 [")]
    assert own.count("|") == both.count("|")


def test_a_rounded_figure_claims_no_more():
    """Catches: 6,000 / 700 = 8.57 as "more than 8.6 times"; a growth of 1.2 % for each of many as "x 1 [1, 1]"; an
    interval that holds the estimate as one more sample."""
    text = delay.markdown(runs(None, budget=6000) + runs(700, objective="cure"), "next_token")
    assert "| cure | 1 of 1 | 700 | 1.4e+03 | > 8.5 x | > 8.5 x |" in text
    assert delay._factor(np.array([0.0117, *[0.0107, 0.0127] * 500])) == "x 1.0118 [1.0108, 1.0128]"
    assert delay._factor(np.array([2.0, 0.0, 0.0, 0.0])) == "x 7.39 [1.00, 1.00]"


def test_the_figure_draws_bounds_apart():
    """Catches: censored runs drawn as solved, arrows the wrong way, graphs or objectives in each other's place."""
    made = runs(900, 1000, None) + runs(None, None, None, graph=(2, 4, 7)) + runs(300, 200, 400, objective="cure")
    made += runs(500, 500, 500, objective="cure", graph=(2, 4, 7))
    times, ratios = study_figures.delays(made, "next_token").axes
    names = [label.get_text() for label in ratios.get_xticklabels()]
    assert names == ["deg2\npath3\nnodes7", "deg2\npath4\nnodes7"]

    def points(axes):
        found = [line for line in axes.lines if line.get_marker() in ("o", "s") and len(line.get_xdata())]
        places = [(round(float(line.get_xdata()[0])), float(line.get_ydata()[0])) for line in found]
        looks = [(line.get_marker(), line.get_markerfacecolor() != "white") for line in found]
        return sorted((x, marker, y, full) for (x, y), (marker, full) in zip(places, looks, strict=True))

    cure = [(0, "s", 200.0, True), (0, "s", 300.0, True), (0, "s", 400.0, True), *[(1, "s", 500.0, True)] * 3]
    hans = [(0, "o", 900.0, True), (0, "o", 1000.0, True), (0, "o", 4000.0, False), *[(1, "o", 4000.0, False)] * 3]
    assert points(times) == sorted(cure + hans)
    assert points(ratios) == [(0, "s", pytest.approx(10 / 3), True), (1, "s", 8.0, False)]
    arrows = [note for note in (*times.texts, *ratios.texts) if note.get_text() == ""]
    assert len(arrows) == 5
    assert all(note.xy[1] > note.xyann[1] for note in arrows)
    low, high = times.get_ylim()
    assert low < 200
    assert high > 4000 * 1.35  # an arrow beyond the axes would not be drawn
