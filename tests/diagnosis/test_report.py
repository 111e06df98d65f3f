"""What a person reads: tables and sentences, whole, against text written by hand."""

import dataclasses
import json

import numpy as np
import pytest
from planted import CleverHans, Parallel, Planner

from nt_failures.diagnosis import Budget, Evidence, diagnose, report, verdict
from nt_failures.evaluation.metrics import Accuracies
from nt_failures.experiments.results import summary
from nt_failures.hub.run_results import RunResults
from nt_failures.objectives import NextToken, Teacherless
from nt_failures.tasks.facts import Words
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 4, 12)
WORDS = TASK.words
METRICS = {
    "loss": 0.3,
    "forced/exact": 0.498,
    "forced/position_1": 1.0,
    "forced/position_2": 0.498,
    "forced/position_3": 0.999,
    "free/exact": 0.498,
    "free/position_1": 1.0,
    "free/position_2": 0.498,
    "free/position_3": 0.501,
    "decision": 0.498,
}

TABLE = """\
position       forced                  free
-------------  ----------------------  ----------------------
1              100.0 % [ 99.6, 100.0]  100.0 % [ 99.6, 100.0]
2 <- decision   49.8 % [ 46.7,  52.9]   49.8 % [ 46.7,  52.9]
3              99.90 % [ 99.4, 99.98]   50.1 % [ 47.0,  53.2]
-------------  ----------------------  ----------------------
whole path      49.8 % [ 46.7,  52.9]   49.8 % [ 46.7,  52.9]
n = 1,000 held-out graphs, 95 % intervals in brackets, chance at the decision 50.0 %"""


def test_position_table():
    """Catches: ways of decoding in each other's column, the decision unmarked, shares without interval or n."""
    assert report.position_table(Accuracies.from_names(METRICS, 1000), 2, 0.5, WORDS) == TABLE


@pytest.mark.parametrize(
    ("rows", "counted"),
    [
        (None, "n = 1,000 held-out graphs,"),
        (1000, "n = 1,000 different held-out graphs,"),
        (20_000, "n = 1,000 different held-out graphs in 20,000 rows,"),
    ],
)
def test_problems_and_rows(rows, counted):
    """Catches: 20,000 rows of 1,000 graphs told as 20,000 graphs, old rows that nobody has compared as different."""
    table = report.position_table(Accuracies.from_names(METRICS, 1000, rows), 2, 0.5, WORDS)
    assert table == TABLE.replace("n = 1,000 held-out graphs,", counted)


def test_one_of_a_thing_and_a_small_chance_read_well():
    """Catches: "1 different held-out graphs", "1 steps", and a chance of 1 in 2,500 called 0.0 %."""
    table = report.position_table(Accuracies.from_names(METRICS, 1, 20), 2, 1 / 2500, WORDS)
    said = "n = 1 different held-out graph in 20 rows, 95 % intervals in brackets, chance at the decision 1 in 2,500"
    assert table.splitlines()[-1] == said
    figure = report.figures.forced_vs_free(Accuracies.from_names(METRICS, 1, 20), None, 1 / 2500, WORDS)
    (axes,) = figure.axes
    assert axes.get_title(loc="left").endswith(", 1 different held-out graph")
    assert axes.get_xlabel().endswith("whose position differs: 1 in 2,500")
    assert str(Budget(steps=1, examples=1)) == "1 step (1 example)"
    assert str(Budget(steps=0, examples=float("inf"))) == "0 steps (inf examples)"
    shares = {1: 1.0, 2: 0.0}
    few = {"exact": 0.0, "chance": 1 / 2500, "decision": 2, "forced": shares, "free": shares}
    assert "chance 1 in 2,500, n = 9" in verdict(Evidence(n=9, **few)).text
    assert "of only 1 different problem; measure" in verdict(Evidence(n=1, **few | {"exact": 1.0})).text


def test_positions_that_some_answers_lack_have_an_n_of_their_own():
    """Catches: an interval of all problems at a position that four of them have; a decision where there is none."""
    metrics = METRICS | {"forced/position_3": 0.5, "free/position_3": 0.5, "n/position_3": 4}
    table = report.position_table(Accuracies.from_names(metrics, 1000, 1000), None, None, Words("sum", "result", "x"))
    lines = table.splitlines()
    assert lines[3].split()[:2] == ["2", "49.8"]
    assert lines[4].split() == ["3", *["50.0", "%", "[", "15.0,", "85.0]"] * 2]
    assert lines[6].startswith("whole result")
    assert lines[7] == "n = 1,000 different held-out sums, 95 % intervals in brackets"


def test_ways_that_were_not_measured_are_left_out():
    """Catches: a crash on metrics of training, which have no free positions; an empty column."""
    forced = {name: value for name, value in METRICS.items() if not name.startswith("free/position")}
    assert report.position_table(Accuracies.from_names(forced, 1000), 2, 0.5).splitlines()[0].split() == [
        "position",
        "forced",
    ]
    hybrid = METRICS | {name.replace("free", "parallel"): 0.25 for name in METRICS if name.startswith("free")}
    lines = report.position_table(Accuracies.from_names(hybrid, 1000), 2, 0.5).splitlines()
    assert lines[0].split() == ["position", "forced", "free", "parallel"]
    assert lines[2].endswith("25.0 % [ 22.4,  27.8]")


def test_percent():
    """Catches: an interval of another n."""
    assert report.percent(0.5, 4) == " 50.0 % [ 15.0,  85.0]"


def test_summary_of_a_run():
    """Catches: the end of a run without its verdict, or without the place where its files are."""
    results = {
        "metrics": METRICS,
        "n": 1000,
        "decision_position": 2,
        "chance": 0.5,
        "steps": 2000,
        "train_seconds": 83.4,
        "diagnosis": {"verdict": {"name": "solved", "text": "A verdict.", "rule": "a rule"}},
    }
    run = RunResults.from_json(results)
    end = "2,000 steps in 83 s\nmodel, tokenizer and results.json are in outputs/run"
    assert summary(run, "outputs/run", TASK, 2000) == f"\n{TABLE}\n\nA verdict.\n\n{end}"
    resumed = dataclasses.replace(run, resumed_at=1900)
    assert "\n100 of 2,000 steps in 83 s\n" in summary(resumed, "outputs/run", TASK, 2000)  # seconds of this process
    best_before = dataclasses.replace(resumed, steps=1000)  # --load_best_model_at_end
    assert "\n100 of 2,000 steps in 83 s\n" in summary(best_before, "outputs/run", TASK, 2000)


CURVE = [{"step": 100} | {f"forced/position_{k}": share for k, share in enumerate([1.0, 0.5, 0.6, 0.9], start=1)}]
CURVE += [{"step": 200} | {f"forced/position_{k}": share for k, share in enumerate([1.0, 0.5, 1.0, 1.0], start=1)}]


@pytest.fixture(scope="module")
def found():
    columns, train = (TASK.sample(np.random.default_rng(seed), 400) for seed in (1, 2))
    return diagnose(CleverHans(TASK), TASK, columns, train, CURVE, Budget(200, 12_800))


def test_findings_say_what_was_measured(found):
    """Catches: a sentence with another claim's number."""
    exact = found["forced_vs_free"]["exact"]
    decision, on_train = found["decision_token"]["accuracy"], found["decision_token"]["train_accuracy"]
    assert decision == exact != on_train
    lines = report.findings(found, WORDS)
    assert lines[0].startswith(f"exact paths: {exact:.1%}".replace("%", " %"))
    assert lines[0].endswith(
        f"snowballing would predict {exact:.1%} (the product of all forced accuracies), 100.0% from the positions "
        "other than the decision alone"
    )
    assert lines[1] == f"of {round(400 * (1 - exact))} wrong answers, 100.0% go wrong first at the decision, position 2"
    choices = found["decision_token"]["choices"]
    assert lines[2] == (
        f"at the decision {exact:.1%} are right, {1 - exact:.1%} another of the choices, 0.0% none of them "
        f"(n = {choices['n']:,})"
    )
    assert lines[3].startswith(
        f"decision on training instances {on_train:.1%}, held out {decision:.1%}: memorisation gap "
        f"{on_train - decision:+.1%} ["
    )
    assert lines[4].startswith(
        "put on a wrong arm it follows it in 100.0 % [ 99.0, 100.0], jumps to the right path in 0.0%"
    )
    assert lines[4].endswith("the last symbol is then right in 100.0%")
    assert lines[5] == ("positions at 95% for good: 1 by step 100, 3 by step 200, 4 by step 200, 2 not by step 200")
    assert len(lines) == 6


def test_intervals_are_of_the_problems_that_a_sentence_is_about(found):
    """Catches: the interval of a follow rate made of rows, or that of a decision that moves made of all problems, where
    four different ones were put on a detour, or have a decision."""
    cheat = found["clever_hans"] | {"n": 4, "rows": 400, "follow_rate": 0.5}
    moving = found["decision_token"] | {"position": None, "accuracy": 0.5, "n": 4}
    lines = report.findings(found | {"clever_hans": cheat, "decision_token": moving}, WORDS)
    assert [line for line in lines if "follows it in 50.0 % [ 15.0,  85.0], jumps" in line]
    assert "decision, at a position of its own in each row: 50.0 % [ 15.0,  85.0], chance 50.0%" in lines


def test_findings_give_reasons_for_what_was_not_measured():
    """Catches: a claim that was not tested left out in silence, or a crash where there are no errors."""
    columns = TASK.sample(np.random.default_rng(1), 50)
    lines = report.findings(diagnose(Parallel(TASK, [1.0] * 4), TASK, columns), WORDS)
    assert len(lines) == 4
    assert lines[0].startswith("exact paths: 100.0 %")
    assert lines[1].startswith("clever_hans not measured: Parallel decodes all positions at once")
    assert lines[2].startswith(
        "by_place not measured: the edge to the goal stands at one of 6 places, and one of them has "
    )
    assert lines[3].startswith("learning_order not measured: the curve has no free/position_k")


def test_terminal_text(found):
    """Catches: a report without table, findings or verdict."""
    text = report.diagnosis_text(found, TASK)
    table, findings, verdict = text.split("\n\n")
    assert table.splitlines()[3].startswith("2 <- decision")
    assert "n = 400 different held-out graphs," in table
    said = [" ".join(line.split()) for line in f"\n{findings}".split("\n- ")]
    assert said == ["", *(" ".join(line.split()) for line in report.findings(found, WORDS))]
    assert verdict.replace("\n", " ") == found["verdict"]["text"]
    assert max(map(len, text.splitlines())) <= 95  # a terminal breaks longer ones within a word


def test_whole_answers_are_told_by_way_of_decoding(found):
    """Catches: the share of answers that are exact under free decoding in the column of the forced ones."""
    measured = found["forced_vs_free"] | {"n": 4, "forced_exact": 0.25, "exact": 0.5}
    table = report.diagnosis_text(found | {"forced_vs_free": measured}, TASK)
    assert "\nwhole path      25.0 % [  4.6,  69.9]   50.0 % [ 15.0,  85.0]\n" in table


def test_markdown_page(found):
    """Catches: figures named that are not drawn, an assumed objective passed off as known, a `|` that breaks a
    table."""
    page = report.diagnosis_markdown(found, TASK, "a|b", NextToken(order="reversed"), described=False, pictured=True)
    assert page.startswith(
        "# Diagnosis of a\\|b\n\n`PathStar(degree=2, path_length=4, num_nodes=12)`, objective NextToken, order "
        "reversed (assumed"
    )
    assert f"\n**{found['verdict']['name']}** (rule: {found['verdict']['rule']})\n" in page
    assert [line for line in page.splitlines() if line.startswith("![")] == [
        "![accuracy by position](forced_vs_free.png)",
        "![a problem and the answer](graph.png)",
        "![accuracy over training](learning.png)",
    ]
    assert page.count("```") == 2
    plain = report.diagnosis_markdown(found, TASK, "m", Teacherless(dummy_token_id=1), described=True, pictured=False)
    assert "assumed" not in plain
    assert "graph.png" not in plain
    without_curve = diagnose(Planner(TASK), TASK, TASK.sample(np.random.default_rng(1), 20))
    assert "learning.png" not in report.diagnosis_markdown(without_curve, TASK, "m", NextToken(), True, True)


def test_findings_read_from_disk_are_the_same(found):
    """Catches: positions as numbers alone, while a results.json has them as text."""
    assert found["learning_order"]["order"]
    assert report.findings(json.loads(json.dumps(found))) == report.findings(found)
