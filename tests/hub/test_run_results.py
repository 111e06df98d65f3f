"""results.json with types: every committed line loads and comes back; what cannot be is refused by name."""

import json
from pathlib import Path

import pytest
from study_records import record

from nt_failures.hub.run_results import RunResults

RESULTS = Path(__file__).parents[2] / "examples" / "results"
FILES = sorted(RESULTS.rglob("*.jsonl"))
CARDS = [Path(__file__).parent / "cards" / f"{kind}.json" for kind in ("teacherless", "hybrid", "adapter", "reversed")]


def unmeasured(**changes):
    """A line of a run whose diagnosis has not measured everything."""
    made = record(**changes)
    made["diagnosis"] |= {"clever_hans": None, "learning_order": None, "not_measured": {"clever_hans": "why not"}}
    return made


def parallel():
    """A line of a run that decodes in one pass."""
    made = record(objective="teacherless", learning_curve=[{"step": 500, "loss": 0.5, "parallel/exact": 0.1}])
    made["metrics"] |= {f"parallel/{name}": 0.25 for name in ("exact", *(f"position_{k}" for k in (1, 2, 3, 4)))}
    return made


KINDS = {
    "next_token": record,
    "decision alone": lambda: record(trained_positions=[2]),
    "nothing learnt": lambda: record(exact=0.0, learning_curve=[]),
    "solved": lambda: record(exact=1.0, curve=((250, 0.5), (500, 1.0))),
    "not measured": unmeasured,
    "parallel": parallel,
}


def comes_back(given, extra):
    results = RunResults.from_json(given)
    assert results.to_json() == given
    assert set(results.extra) == extra
    assert results.accuracies.named().items() <= given["metrics"].items()
    assert results.verdict == given["diagnosis"]["verdict"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(RESULTS)))
def test_every_committed_line_comes_back(file):
    """Catches: a type that a real run breaks; an entry lost, renamed or added on the way."""
    for line in file.read_text(encoding="utf-8").splitlines():
        comes_back(json.loads(line), {"recipe", "seed", "fingerprint"})


@pytest.mark.parametrize("kind", KINDS)
def test_lines_of_other_kinds_come_back(kind):
    """Catches: the same where no committed study has a run of this kind."""
    comes_back(KINDS[kind](), {"recipe", "seed", "fingerprint"})


@pytest.mark.parametrize("file", CARDS, ids=lambda file: file.stem)
def test_results_of_other_objectives_come_back(file):
    """Catches: a type that only the results of a hybrid, a parallel or a partly trained run have."""
    comes_back(json.loads(file.read_text(encoding="utf-8"))["results"], set())


def test_there_are_committed_lines():
    """Catches: a comparison of nothing."""
    assert len(FILES) >= 2


def test_what_is_not_known():
    """Catches: a guess in place of nothing; null that comes back as an entry of its own."""
    results = RunResults.from_json({"throughput": None, "metrics": None, "steps": 3})
    assert results == RunResults(steps=3)
    assert results.to_json() == {"steps": 3, "trained_positions": None}
    assert (results.accuracies, results.verdict, results.scores, results.data_arguments) == (None, None, {}, {})


VERDICT = {"name": "solved", "text": "t", "rule": "r"}
REFUSED = {
    "a share above one": ({"chance": 1.5}, "share at chance: '1.5'"),
    "a measured share above one": ({"metrics": {"free/exact": 50}}, "share at metrics.free/exact"),
    "a share that is text": ({"metrics": {"forced/position_2": "0.5"}}, "share at metrics.forced/position_2"),
    "a metric that is a list": ({"metrics": {"wrong_paths": [1]}}, "number at metrics.wrong_paths"),
    "NaN": ({"metrics": {"wrong_paths": float("nan")}}, "number at metrics.wrong_paths"),
    "infinity": ({"learning_curve": [{"step": 1}, {"free/exact": float("inf")}]}, "number at learning_curve.1.free/ex"),
    "a step that is no object": ({"learning_curve": [1]}, "object at learning_curve.0"),
    "half a row": ({"n": 2.5}, "count at n: '2.5'"),
    "rows below none": ({"n": -1}, "count at n"),
    "a truth for a count": ({"steps": True}, "count at steps"),
    "seconds in words": ({"train_seconds": "long"}, "number at train_seconds"),
    "arguments that are a list": ({"arguments": []}, "object at arguments"),
    "a word for a list": ({"local": "model"}, "list at local"),
    "a diagnosis without a verdict": ({"diagnosis": {}}, "verdict at diagnosis.verdict"),
    "a verdict without its rule": ({"diagnosis": {"verdict": {"name": "x", "text": "y"}}}, "verdict at diagnosis.verd"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case):
    """Catches: a crash later, in a card or a table, that names neither file nor entry."""
    values, reason = REFUSED[case]
    with pytest.raises(ValueError, match=rf"results\.json has no {reason}"):
        RunResults.from_json(values)
    with pytest.raises(ValueError, match="line 3 has no "):
        RunResults.from_json(values, "line 3")


def test_what_may_be():
    """Catches: a diverged training, or a figure of one's own, that is refused."""
    nan = float("nan")
    values = {
        "metrics": {"loss": nan, "wrong_paths": 37.0, "free/position_last": 2.0, "free/exact": 0.5, "runtime": 1.0}
    }
    values |= {"n": 4, "learning_curve": [{"step": 1, "loss": float("inf")}], "diagnosis": {"verdict": VERDICT}}
    results = RunResults.from_json(values)
    assert results.accuracies.free.exact == 0.5
    assert set(results.scores) == {"loss", "wrong_paths", "free/position_last", "free/exact"}
    assert results.verdict["name"] == "solved"


def test_read(tmp_path):
    """Catches: an error for a folder without results; a damaged file taken for none."""
    assert RunResults.read(tmp_path) == RunResults()
    (tmp_path / "results.json").write_text('{"steps": 4}')
    assert RunResults.read(tmp_path).steps == 4
    (tmp_path / "results.json").write_text('{"steps": ')
    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        RunResults.read(tmp_path)
