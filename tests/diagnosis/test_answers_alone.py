"""A model of which whole answers alone can be had: what is measured, what is not, and what is said of it."""

import json

import numpy as np
import pytest
from planted import AnswersAlone, CleverHans, Planner

from nt_failures.diagnosis import Evidence, diagnose, figures, report, verdict
from nt_failures.evaluation.observations import Observations
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 4, 12)
ROWS = TASK.sample(np.random.default_rng(1), 400)


@pytest.fixture(scope="module")
def found():
    return diagnose(AnswersAlone(CleverHans(TASK)), TASK, ROWS)


def test_free_answers_are_measured_as_ever(found):
    """Catches: a free share that changes with what else can be measured."""
    whole = diagnose(CleverHans(TASK), TASK, ROWS)
    for name in ("n", "rows", "free", "free_others", "exact", "exact_interval", "first_error", "errors"):
        assert found["forced_vs_free"][name] == whole["forced_vs_free"][name]
    assert found["decision_token"] == whole["decision_token"]  # up to it, this model makes no error of its own
    assert found["by_difficulty"] == whole["by_difficulty"]


def test_the_rest_is_not_measured(found):
    """Catches: a share of 0 or 1 in place of none; a reason that is lost."""
    names = ("forced", "forced_exact", "forced_others", "snowball_prediction", "snowball_without_decision")
    assert {name: found["forced_vs_free"][name] for name in names} == dict.fromkeys(names)
    assert found["clever_hans"] is None
    assert found["not_measured"]["forced"] == found["not_measured"]["clever_hans"] == "it is not shown."


def test_why_it_failed_is_left_open(found):
    """Catches: a cause named, a decision called at chance for good, or `undertrained` of a model that merely fails."""
    exact = found["forced_vs_free"]["exact"]
    said = found["verdict"]
    assert said["name"] == "not solved"
    assert said["text"].startswith(f"Not solved: {exact:.1%} [")
    assert f"in these answers, decision {found['decision_token']['accuracy']:.1%} [" in said["text"]
    assert "Why is not measured: " in said["text"]
    assert diagnose(AnswersAlone(Planner(TASK)), TASK, ROWS)["verdict"]["name"] == "solved"
    few = {name: column[:3] for name, column in ROWS.items()}
    assert diagnose(AnswersAlone(Planner(TASK)), TASK, few)["verdict"]["name"] == "undertrained"


def test_evidence_without_forced_shares():
    """Catches: forced shares that are wanted, a snowball made of free ones, shares out of range let through."""
    evidence = Evidence(1000, 0.5, 0.5, 2, None, {1: 0.9, 2: 0.85, 3: 0.8})
    assert verdict(evidence).name == "not solved"
    assert verdict(Evidence(1000, 0.5, None, None, None, {1: 0.5})).name == "not solved"
    with pytest.raises(ValueError, match="every share a number"):
        Evidence(1000, 0.5, 0.5, 2, None, {1: 0.9, 2: 1.5})
    with pytest.raises(ValueError, match="the same positions"):
        Evidence(1000, 0.5, 0.5, 4, None, {1: 0.9, 2: 0.5})


def test_report_and_figure(found, tmp_path):
    """Catches: a page that needs forced shares, or has an empty column of them; a title that promises them."""
    assert json.loads(json.dumps(found)) is not None
    text = report.diagnosis_text(found, TASK)
    assert text.splitlines()[0].split() == ["position", "free"]
    assert "forced not measured: it is not shown." in text
    assert "clever_hans not measured: it is not shown." in text
    assert "snowballing would predict" not in text
    observed = Observations(AnswersAlone(CleverHans(TASK)), TASK, ROWS)
    (axes,) = figures.forced_vs_free(observed.accuracies, 2, 0.5, TASK.words).axes
    assert [container.get_label().split(":")[0] for container in axes.containers] == ["free"]
    assert axes.get_title(loc="left").startswith("Free accuracy (forced not measured), ")
    assert report.draw(tmp_path, observed.accuracies, 2, 0.5, TASK, "forward", observed.example())
    assert (tmp_path / "forced_vs_free.png").stat().st_size > 5000


def test_a_way_that_is_said(found):
    """Catches: a report that is silent about answers that were cut off, or about how a server was asked."""
    api = {"model": "m", "url": "http://h/v1", "prompt_style": "chat", "options": {"seed": 1}}
    line = report.findings(found | {"api": api | {"answers": 400, "cut_off": 0}})[-1]
    assert line == "asked as m at http://h/v1, prompts as chat, seed 1"
    line = report.findings(found | {"api": api | {"answers": 1400, "cut_off": 7}})[-1]
    assert "; 7 of 1,400 answers were cut off before their end and count as they stand" in line
    line = report.findings(found | {"api": api | {"answers": 1400, "cut_off": 0, "null": 9}})[-1]
    assert "seed 1; 9 of 1,400 answers were null, without any text, and count as wrong" in line
    line = report.findings(found | {"api": api | {"answers": 1400, "cut_off": 0, "untagged": 5}})[-1]
    assert line.endswith("seed 1; 5 of 1,400 answers held no </answer> and count as wrong")
