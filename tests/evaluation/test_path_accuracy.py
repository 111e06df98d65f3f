"""The path metric: by hand, against the task's judge, and through the three doors of `evaluate`."""

import doctest
import re
from pathlib import Path

import evaluate
import huggingface_hub
import numpy as np
import pytest

from nt_failures.evaluation import path_accuracy
from nt_failures.evaluation.path_accuracy import PathAccuracy
from nt_failures.tasks.path_star import PathStar

# G(2, 5): arms 32 34 6 16 12 (goal) and 32 3 19 47 28.
PROMPT = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12="
PATH = "32,34,6,16,12"
FOLDER = Path(path_accuracy.__file__).parent


@pytest.fixture
def metric(tmp_path):
    return PathAccuracy(cache_dir=str(tmp_path))


def test_scores_by_hand(metric):
    """Catches: positions from 0, a share of the wrong total, a wrong arm that counts as no path or as right."""
    answers = {
        "right": "32,34,6,16,12",
        "wrong arm": "32,3,19,47,28",
        "wrong arm, then the goal": "32,3,19,47,12",
        "too long": "32,34,6,16,12,28",
    }
    scores = metric.compute(predictions=list(answers.values()), references=[PATH] * 4, prompts=[PROMPT] * 4)
    assert scores == {
        "exact": 0.25,
        "position_1": 1.0,
        "position_2": 0.5,
        "position_3": 0.5,
        "position_4": 0.5,
        "position_5": 0.75,
        "decision": 0.5,
        "first_error_1": 0.0,
        "first_error_2": 0.5,
        "first_error_3": 0.0,
        "first_error_4": 0.0,
        "first_error_5": 0.0,
        "first_error_6": 0.25,
        "valid_path": 0.5,
        "wrong_arm": 0.25,
        "n": 4,
    }
    assert {name: type(score) for name, score in scores.items()} == dict.fromkeys(scores, float) | {"n": int}


@pytest.mark.parametrize("answer", ["32,3,19", "32 3\n19", " 32, 3,19 ", [32, 3, 19]])
@pytest.mark.parametrize("reference", ["32,34,19", [32, 34, 19]])
def test_text_and_lists_score_alike(metric, answer, reference):
    """Catches: labels compared as text, blanks that move later nodes, one form read as the other."""
    scores = metric.compute(predictions=[answer], references=[reference])
    assert [scores[f"position_{k}"] for k in (1, 2, 3)] == [1.0, 0.0, 1.0]


def test_without_prompts_nothing_is_said_about_the_graph(metric):
    """Catches: a share of valid paths from a graph that nobody gave."""
    scores = metric.compute(predictions=["1,2,3", "", "1,$,3"], references=["1,2,3"] * 3)
    assert not {"valid_path", "wrong_arm"} & set(scores)
    assert (scores["exact"], scores["position_2"], scores["position_3"]) == (1 / 3, 1 / 3, 2 / 3)


def test_paths_of_different_lengths(metric):
    """Catches: short paths counted right, or wrong, at positions they do not have; rows mixed up by grouping."""
    scores = metric.compute(predictions=["1,2", "1,9,3", "4,5", "8,7,6"], references=["1,2", "1,2,3", "5,4", "8,7,6"])
    assert (scores["position_1"], scores["position_2"], scores["position_3"]) == (0.75, 0.5, 1.0)
    assert (scores["first_error_1"], scores["first_error_2"]) == (0.25, 0.25)


def test_agrees_with_the_judge(metric):
    """Catches: a metric with its own idea of what is right."""
    task = PathStar(3, 4, 20)
    columns = task.sample(np.random.default_rng(0), 40)
    text = {name: column.to_list() for name, column in task.render(columns).items()}
    rng = np.random.default_rng(1)
    answers = [np.where(rng.random(4) < 0.8, path, rng.integers(0, 20, 4)).tolist() for path in columns["path"]]
    judged = task.judge(columns, answers)
    scores = metric.compute(
        predictions=[",".join(map(str, a)) for a in answers], references=text["completion"], prompts=text["prompt"]
    )
    assert 0 < scores["exact"] == judged["exact"].mean() < 1
    assert scores["valid_path"] == judged["valid_path"].mean()
    assert [scores[f"position_{k}"] for k in range(1, 5)] == judged["correct"].mean(axis=0).tolist()
    assert [scores[f"first_error_{k}"] for k in range(1, 6)] == [
        (judged["first_error"] == k).mean() for k in range(1, 6)
    ]


def test_decision_position(metric):
    """Catches: a decision that is always position 2 (reversed models decide elsewhere)."""
    assert metric.compute(predictions=["1,9,3"], references=["1,2,3"])["decision"] == 0.0
    assert metric.compute(predictions=["1,9,3"], references=["1,2,3"], decision_position=3)["decision"] == 1.0


def test_batches_add_up(metric):
    """Catches: scores of the last batch only."""
    metric.add_batch(predictions=["1,2"], references=["1,2"])
    metric.add_batch(predictions=["1,3", "2,2"], references=["1,2", "1,2"])
    metric.add(prediction="1,2", reference="1,2")
    scores = metric.compute()
    assert (scores["n"], scores["exact"]) == (4, 0.5)


def test_loads_from_its_folder_and_combines(metric, tmp_path, monkeypatch):
    """Catches: an import that evaluate's loader cannot read, a class it does not find, names lost in `combine`."""
    modules = tmp_path / "modules"
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(modules))
    loaded = evaluate.load(str(FOLDER), cache_dir=str(tmp_path))
    assert loaded.__class__ is not PathAccuracy
    both = evaluate.combine({"mine": metric, "loaded": loaded})
    scores = both.compute(predictions=["1,2", "1,3"], references=["1,2", "1,2"])
    assert scores["mine_exact"] == scores["loaded_exact"] == 0.5
    both.add(prediction="1,2", reference="1,2")
    assert both.compute()["mine_exact"] == 1.0
    assert loaded.compute(predictions=["1,2"], references=["1,2"]) == metric.compute(
        predictions=["1,2"], references=["1,2"]
    )


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"predictions": [], "references": []}, "at least one prediction"),
        ({"predictions": ["1,2", "1,2"], "references": ["1,2"]}, "1 references for 2 predictions; give one for each"),
        ({"predictions": ["1,2"], "references": None}, "0 references for 1 predictions"),
        ({"predictions": ["1,2"], "references": ["1,2"], "prompts": []}, "0 prompts for 1 predictions"),
        ({"predictions": ["1,2"] * 2, "references": ["1,2"] * 2, "prompts": ["1,2/1,2=", "?"]}, "prompt 2 .*'\\?'"),
        (
            {"predictions": ["1,2"], "references": ["1,2"], "prompts": ["1,3/1,3="]},
            "not the path to the goal, \\[1, 3\\]",
        ),
        ({"predictions": ["1,2"], "references": ["1"]}, "reference 1, '1', is no path"),
        ({"predictions": ["1,2"], "references": ["1,x"]}, "reference 1, '1,x', is no path"),
        ({"predictions": ["1,2", None], "references": ["1,2"] * 2}, "is None"),
        ({"predictions": ["1,2"], "references": ["1,2"], "decision_position": 3}, "decision_position=3 .* give 1 to 2"),
        ({"predictions": ["1,2"], "references": ["1,2"], "decision_position": 0}, "decision_position=0"),
        ({"predictions": ["1,2"], "references": ["1,2"], "decision_position": 2.0}, "decision_position=2.0 .* 1 to 2"),
        ({"predictions": ["1,2"], "references": ["1,2"], "decision_position": "2"}, "decision_position='2' .* 1 to 2"),
        (
            {"predictions": ["1,2"], "references": ["1,2"], "decision_position": True},
            "decision_position=True .* 1 to 2",
        ),
        (
            {"predictions": ["1,2"], "references": ["1,2"], "prompts": "1,2/1,2="},
            "prompts is one text, '1,2/1,2='; give",
        ),
        ({"predictions": ["1,2"], "references": ["1,2"], "prompts": [None]}, "a prompt is no text; give"),
        ({"predictions": ["1,2"], "references": ["1,2"], "prompts": ["1,2/1,2=1,2"]}, "holds the path already"),
        ({"predictions": "1,2", "references": "1,2"}, "predictions is one text, '1,2'; give a list"),
        ({"predictions": ["1,2", [1, 2]], "references": ["1,2"] * 2}, "predictions are both text and lists"),
        ({"predictions": ["1,2"] * 2, "references": [[1, 2], "1,2"]}, "references are both text and lists"),
        ({"predictions": [1], "references": [1]}, "don't match the expected format"),
    ],
)
def test_bad_inputs(metric, inputs, reason):
    """Catches: an IndexError, a TypeError or a wrong share where the inputs make no sense."""
    with pytest.raises(ValueError, match=reason):
        metric.compute(**inputs)


@pytest.mark.parametrize("keep_in_memory", [True, False])
def test_a_refused_call_leaves_nothing_behind(tmp_path, keep_in_memory):
    """Catches: a metric that takes lists for good, or keeps a lock or rows, after one call that was refused."""
    metric = PathAccuracy(cache_dir=str(tmp_path), keep_in_memory=keep_in_memory)
    refused = [
        {"predictions": [[1.0, 2.7]], "references": [[1, 2]]},
        {"predictions": ["1,9"], "references": ["1,2"], "decision_position": 7},
        {"predictions": ["1,9"], "references": ["1,2"], "prompts": ["?"]},
    ]
    for inputs in refused:
        with pytest.raises(ValueError):
            metric.compute(**inputs)
        scores = metric.compute(predictions=["1,2"], references=["1,2"])
        assert (scores["exact"], scores["n"]) == (1.0, 1)
    metric.add(prediction="1,2", reference="1,2")
    with pytest.raises(ValueError):
        metric.compute(decision_position=7)
    metric.add(prediction=[1.0, 2.7], reference=[1, 2])  # buffered, so it is found out later
    with pytest.raises(ValueError):
        metric.compute()
    for inputs in (refused[0], {"predictions": [[2**70, 1]], "references": [[1, 2]]}):
        with pytest.raises((ValueError, OverflowError)):
            metric.add_batch(**inputs)
    with pytest.raises(ValueError, match="is None"):
        metric.add()
    metric.add(prediction="1,2", reference="1,2")
    assert metric.compute()["n"] == 1


def test_a_refused_batch_costs_no_earlier_one(metric):
    """Catches: an hour of batches thrown away with one that was refused; lists behind text, which would be scored as
    the text "[1, 2]", and so wrong."""
    metric.add_batch(predictions=["1,2"], references=["1,2"])
    for prediction, reference in ((["1,2"], [[1, 2]]), ([[1, 2]], ["1,2"])):
        with pytest.raises(ValueError, match="s are both text and lists; give all of them in one form"):
            metric.add_batch(predictions=prediction, references=reference)
        with pytest.raises(ValueError, match="s are both text and lists"):
            metric.add(prediction=prediction[0], reference=reference[0])
    metric.add_batch(predictions=["1,3"], references=["1,2"])
    scores = metric.compute()
    assert (scores["n"], scores["exact"]) == (2, 0.5)


def test_labels_have_no_limit(metric):
    """Catches: a limit on labels that nobody gave, with prompts only."""
    rows = {"predictions": ["70000,1,2", "70000,3,65536"], "references": ["70000,1,2"] * 2}
    scores = metric.compute(**rows, prompts=["70000,1|1,2|70000,3|3,65536/70000,2="] * 2)
    assert (scores["exact"], scores["valid_path"], scores["wrong_arm"]) == (0.5, 1.0, 0.5)
    assert scores["exact"] == metric.compute(**rows)["exact"]


# ---------------------------------------------------------------- the folder as a Space


def test_examples_of_the_card(tmp_path, monkeypatch):
    """Catches: a card whose examples do not run, or give other figures than it says."""
    monkeypatch.chdir(Path(path_accuracy.__file__).parents[3])
    modules = tmp_path / "modules"
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    text = (FOLDER / "README.md").read_text(encoding="utf-8").replace("```", "\n")
    card = doctest.DocTestParser().get_doctest(text, {}, "card", None, 0)
    results = doctest.DocTestRunner().run(card)
    assert (results.failed, results.attempted) == (0, 12)


def test_card_as_the_hub_reads_it():
    """Catches: front matter that a Space refuses, an app file or a requirement that is not there."""
    card = huggingface_hub.SpaceCard.load(FOLDER / "README.md").data
    assert (card.title, card.sdk, card.app_file, card.license) == ("Path Accuracy", "gradio", "app.py", "apache-2.0")
    assert card.tags == ["evaluate", "metric"]
    assert len(card.to_dict()["short_description"]) <= 60
    assert (FOLDER / card.app_file).exists()
    assert (FOLDER / "requirements.txt").read_text(encoding="utf-8").split() == ["nt_failures"]


def test_card_names_every_result(metric):
    """Catches: a result that the card does not explain."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    scores = metric.compute(predictions=["0,1"], references=["0,1"], prompts=["0,1/0,1="])
    assert {re.sub(r"_\d+$", "_k", name) for name in scores} <= set(re.findall(r"`(\w+)`", text))
