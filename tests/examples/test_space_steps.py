"""examples/space without a browser or gradio: the steps against hand-written ones, the HTML against planted markup."""

import dataclasses
import html
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from planted import CleverHans, Jumper, Parallel, Planner, ReversedPlanner

from nt_failures.objectives import NextToken, Teacherless
from nt_failures.tasks.path_star import PathStar

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "space"))

import page
import steps

# Arms 32 34 6 16 12 (goal), 32 3 19 47 28 and 32 7 8 9 10.
LINE = "32,3|16,12|8,9|3,19|32,34|32,7|34,6|6,16|9,10|19,47|7,8|47,28/32,12="
TASK = PathStar(degree=3, path_length=5, num_nodes=50)
ROW = steps.own_line(TASK, LINE)
EVIL = "<script>alert('${1}')</script>"


def believing(planted, name="3"):
    """A planted predictor whose likeliest token is always `name`; the position is the second."""

    class Believer(planted):
        def candidates(self, columns, answers, top):
            assert (np.asarray(answers) >= 0).all(), "an answer that cannot be written"
            return [[[(name, 0.75), (str(k), 0.25)] for k in range(1, 6)] for _ in answers]

    return Believer


class Third(CleverHans):
    """Always goes down the arm of 3."""

    def guess(self, columns):
        return np.full(len(columns["path"]), 3)


class Stray(Third):
    """Writes no node at position 3."""

    def step(self, columns, shown, k):
        found = super().step(columns, shown, k)
        return np.full_like(found, -1) if k == 3 else found


def asked(planted, *args):
    """The predictor and its walk over `ROW`."""
    predictor = believing(planted)(TASK, *args)
    return predictor, steps.walk(predictor, ROW)


def text(markup):
    """Words of the markup, one space between."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


# ---------------------------------------------------------------- steps


def test_own_line_finds_the_path():
    """Catches: a path that is not the goal's, or is lost when the line brings it along."""
    assert ROW["path"] == [32, 34, 6, 16, 12]
    assert steps.own_line(TASK, LINE + "32,34,6,16,12") == ROW
    assert steps.prompt(TASK, ROW) == LINE


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("  ", "paste a line first, for example"),
        (EVIL, "not a path-star line"),
        ("1,2|1,3/1,2=", "is not a graph of 3 arms with 5 nodes each"),
        (LINE.replace("12", "77"), "is not below num_nodes=50"),
        (LINE + "32,3,19,47,28", "is not the path to the goal"),
    ],
)
def test_lines_that_do_not_fit(line, says):
    """Catches: a line of another task that is drawn all the same, a message that does not say what is wrong."""
    with pytest.raises(ValueError, match=re.escape(says)):
        steps.own_line(TASK, line)


def test_test_graphs_are_of_the_test_split():
    """Catches: training graphs shown as test graphs, a number beyond the end that fails deep inside."""
    rows = [steps.test_graph(TASK, number) for number in (0, 4095)]
    assert [TASK.split_of(steps.columns_of(row))[0] for row in rows] == ["test", "test"]
    assert rows[0] != rows[1]
    for bad in (-1, 4096, 1.5, None):
        with pytest.raises(ValueError, match=f"no test graph {bad}; give a whole number from 0 to 4,095"):
            steps.test_graph(TASK, bad)


def test_forced_and_free_see_different_nodes():
    """Catches: the wrong answer shown as what the model saw, steps shifted by one, free running with the teacher's
    nodes."""
    _, w = asked(Third)
    forced, free = w.ways
    assert (w.order, w.decision, w.length) == ("forward", 2, 5)
    assert forced.answer == (32, 3, 6, 16, 12)
    assert free.answer == (32, 3, 19, 47, 12)
    assert [w.before(forced, step) for step in (1, 2, 4)] == [[], [32], [32, 34, 6]]
    assert [w.before(free, step) for step in (1, 2, 4)] == [[], [32], [32, 3, 19]]
    assert w.so_far(free, 3) == [32, 3, 19]
    assert [w.right(free, k) for k in range(1, 6)] == [True, False, False, False, True]
    assert free.candidates[2] == [("3", 0.75), ("3", 0.25)]
    assert page.summary(w) == (
        "Teacher forcing counts 4 of 5 nodes as right, yet the path that the model writes on its own is wrong, first "
        "at position 2, the decision."
    )


def test_reversed_models_step_from_the_goal():
    """Catches: steps in the task's order for a model that writes the other way round."""
    _, w = asked(ReversedPlanner)
    forced, free = w.ways
    assert [w.position(step) for step in (1, 2, 5)] == [5, 4, 1]
    assert w.step(w.decision) == 2
    assert free.answer == (32, 34, 6, 16, 12)
    assert w.before(forced, 3) == [12, 16]
    assert w.so_far(free, 3) == [6, 16, 12]
    assert page.summary(w) == "Right on this graph, with the teacher's help and without."


def test_no_probabilities_behind_what_is_no_node():
    """Catches: probabilities for an input that the model never saw, a crash on writing -1."""
    _, w = asked(Stray)
    assert w.ways[1].answer[2] == -1
    assert [bool(c) for c in w.ways[1].candidates] == [True, True, True, False, False]
    assert [bool(c) for c in w.ways[0].candidates] == [True] * 5
    shown = text(page.steps(w, w.ways, 4))
    assert "shown: graph 32 3 ?" in shown
    assert "Writes no node: ✗ wrong" in text(page.panel(w, w.ways[1], 3))
    assert "No probabilities: what it wrote before is no node of this task." in shown


def test_no_probabilities_behind_what_is_no_node_reversed():
    """Catches: in reversed order, the probabilities on the wrong side of the stray symbol left out."""

    class Backwards(ReversedPlanner):
        def step(self, columns, shown, k):
            return np.array([99]) if k == 4 else super().step(columns, shown, k)

    _, w = asked(Backwards)
    assert [bool(c) for c in w.ways[1].candidates] == [False, False, False, True, True]


def test_parallel_models_have_no_teacher():
    """Catches: a teacherless model shown as if it decoded token by token, or revealed nodes that it cannot take."""
    predictor, w = asked(Parallel, (1, 1, 0, 1, 1))
    (way,) = w.ways
    assert (way.name, way.answer) == ("parallel", (32, 34, 7, 16, 12))
    assert w.before(way, 4) == []
    assert "all positions at once" in steps.why_no_detour(predictor, ROW)
    assert page.summary(w) == "4 of 5 nodes are right; the first wrong one is at position 3."
    assert "dummies, $, in place of all nodes" in text(page.steps(w, w.ways, 1))
    assert "writes all nodes in one pass" in page.header("m", Teacherless(dummy_token_id=3), TASK)
    assert "<b>On its own</b>" in page.header("m", NextToken(), TASK)
    assert "from the goal back" in page.header("m", NextToken(order="reversed"), TASK)


# ---------------------------------------------------------------- the wrong arm


def test_wrong_arms():
    """Catches: the right arm among the wrong ones, an arm cut short; they are what the task calls detours."""
    arms = steps.wrong_arms(ROW)
    assert arms == [[32, 3, 19, 47, 28], [32, 7, 8, 9, 10]]
    many = {name: np.repeat(column, 64, axis=0) for name, column in steps.columns_of(ROW).items()}
    assert np.unique(TASK.detours(many, np.random.default_rng(0)), axis=0).tolist() == arms


@pytest.mark.parametrize(
    ("planted", "arm", "answer", "fate"),
    [
        (Planner, 0, (32, 3, 19, 47, 12), "follow"),
        (Planner, 1, (32, 7, 8, 9, 12), "follow"),
        (Jumper, 1, (32, 7, 6, 16, 12), "jump"),
        (Stray, 0, (32, 3, -1, -1, 12), "neither"),
    ],
)
def test_revealed_wrong_arm(planted, arm, answer, fate):
    """Catches: the chosen arm not the revealed one, following and jumping mixed up, the copied goal held against it."""
    predictor, w = asked(planted)
    nodes = steps.wrong_arms(ROW)[arm]
    way = steps.detour(predictor, ROW, nodes)
    assert (way.answer, way.given) == (answer, 2)
    assert w.before(way, 4) == list(answer[:3])
    assert steps.fate(w, way, nodes) == fate
    assert page.fate(fate, w, way, steps.revealed_node(nodes, "forward")).startswith(f"Given {nodes[1]}, it ")
    assert f"Given: {nodes[1]}." in text(page.panel(w, way, 2))
    assert "32 given" in text(page.overview(w, [way], 2))


def test_sentences_claim_no_more_than_happened():
    """Catches: 'yet' where teacher forcing does no better, a copied goal that the model did not write."""
    _, w = asked(Third)
    junk = dataclasses.replace(w.ways[0], answer=(1, 1, 1, 1, 1))
    bad = dataclasses.replace(w, ways=(junk, dataclasses.replace(junk, name="free")))
    assert page.summary(bad) == (
        "Teacher forcing counts 0 of 5 nodes as right; on its own the model goes wrong first at position 1."
    )
    assert page.fate("neither", w, junk, 3) == "Given 3, it left the wrong arm, but not for the right one."
    assert page.fate("follow", w, w.ways[1], 3) == (
        "Given 3, it went on along the wrong arm. (The goal at the end is a copy from the prompt.)"
    )


def test_revealed_wrong_arm_in_reversed_order():
    """Catches: a wrong leaf given in the place of the goal, the first node given to a model that starts at the end."""
    predictor, w = asked(ReversedPlanner)
    arm = [32, 3, 19, 47, 28]
    way = steps.detour(predictor, ROW, arm)
    assert way.answer == (32, 3, 19, 47, 12)
    assert w.before(way, 3) == [12, 47]
    assert steps.fate(w, way, arm) == "follow"
    assert steps.revealed_node(arm, "reversed") == 47


def test_graphs_without_a_detour():
    """Catches: a button that fails where there is a single arm or nothing to watch."""
    single = {"edges": [[1, 2], [2, 3], [3, 4]], "source": 1, "goal": 4, "path": [1, 2, 3, 4]}
    short = {"edges": [[1, 2], [2, 3], [1, 4], [4, 5]], "source": 1, "goal": 3, "path": [1, 2, 3]}
    predictor = Planner(TASK)
    assert "single arm" in steps.why_no_detour(predictor, single)
    assert "fewer than 4 nodes" in steps.why_no_detour(predictor, short)
    assert steps.why_no_detour(predictor, ROW) == ""


# ---------------------------------------------------------------- HTML


def test_planted_markup_is_escaped():
    """Catches: a tokenizer, a model name or a pasted line that injects markup into the page."""
    w = steps.walk(believing(Third, EVIL)(TASK), ROW)
    for markup in (
        page.steps(w, w.ways, 3),
        page.steps(w, w.ways, 3, verdict=EVIL),
        page.message(EVIL, bad=True),
        page.header(EVIL, NextToken(), TASK),
        page.visible(EVIL),
    ):
        assert "<script" not in markup.lower()
        assert "&lt;script" in markup
    assert "&lt;img src=x" not in page.visible('"><img src=x onerror=1>')  # cut short
    assert "<" not in page.visible('"><img src=x onerror=1>')
    assert '"' not in page.visible('"><img src=x onerror=1>')


def test_the_header_promises_nothing_of_the_model():
    """Catches: an untrained model that 'looks as if it had learnt the task', a trained one's graphs held out
    unasked."""
    shown = text(page.header("m", NextToken(), TASK))
    assert "one that has learnt the look-ups alone seems to have learnt the task" in shown
    assert "and it looks as if" not in shown
    assert 'Graphs of the test split are held out if it was trained with overlap="forbid", the default.' in shown


def test_picture_tells_what_it_shows():
    """Catches: a graph with the whole answer at every step, a picture that says nothing to a screen reader."""
    _, w = asked(Third)
    assert 'alt="Graph: source 32, goal 12. On its own, step 3 of 5: 32, 3, 19"' in page.picture(w, w.ways[1], 3)


@pytest.mark.parametrize(
    ("token", "seen"), [(" 3", " 3"), (" ", "&#x27; &#x27;"), ("\n", "&#x27;\\n&#x27;"), ("", "&#x27;&#x27;")]
)
def test_every_token_can_be_seen(token, seen):
    """Catches: a bar without a name."""
    assert page.visible(token) == seen


def test_panel_names_right_and_wrong_without_colour():
    """Catches: right and wrong told apart by colour alone, the bar of the right node in the colour of the wrong one."""
    _, w = asked(Third)
    forced, free = (page.panel(w, way, 3) for way in w.ways)
    assert "Writes 6: ✓ right" in text(forced)
    assert "Writes 19: ✗ wrong , the right node is 6" in text(free)
    assert '<div class="fill wrong" style="width:75.0%">' in page.panel(w, w.ways[1], 2)
    table = text(page.overview(w, w.ways, 3))
    assert table.startswith("1 2 (decision) 3 4 5 Right path 32 34 6 16 12 Teacher forcing ")
    assert table.endswith("Teacher forcing 32 ✓ 3 ✗ 6 ✓ 16 ✓ 12 ✓ 4 of 5 On its own 32 ✓ 3 ✗ 19 ✗ 47 ✗ 12 ✓ 2 of 5")
