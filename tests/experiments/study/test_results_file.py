"""results.jsonl and diverged.jsonl, which any kill may tear."""

import json

import pytest
from study_records import lost, record

from nt_failures.experiments.study import results_file
from nt_failures.experiments.study.results_file import Key, StudyRun, read_key
from nt_failures.objectives import find_objective
from nt_failures.registry import NotImported
from nt_failures.tasks._sources import definition


def seeds(path):
    return [run.key.seed for run in results_file.read_results(path)]


def test_a_line_keeps_of_the_curve_what_times_are_read_from():
    """Catches: a file that is nine tenths learning curves; one from which the time to solve cannot be told any more."""
    curve = [{"step": 100, "loss": 0.5, "free/exact": 0.96, "forced/position_2": 0.97, "decision": 0.97}]
    key = Key("a", 1, "f")
    whole = {name: value for name, value in record().items() if name not in Key._fields} | {"learning_curve": curve}
    line = results_file.record(key, whole)
    named = {"recipe": "a", "seed": 1, "fingerprint": "f"}
    assert line == {**named, **whole, "learning_curve": [{"step": 100, "free/exact": 0.96}]}
    alone = results_file.record(key, whole | {"trained_positions": [2]})
    assert alone["learning_curve"] == [{"step": 100, "forced/position_2": 0.97}]


@pytest.mark.parametrize(("objective", "others"), [("next_token", 0.98), ("teacherless", 0.7)])
@pytest.mark.parametrize(("chance", "taken"), [(0.5, True), (None, False)], ids=["decides", "nothing to decide"])
def test_the_other_positions_of_a_decision_that_moves(objective, others, chance, taken):
    """Catches: the decision, at 50 %, given out for the worst look-up, where each row has its own; the other decoding;
    rows without any decision asked for one."""
    moves = {"forced_others": {"1": 1.0, "2": 0.98, "3": 0.99}, "free_others": {"1": 0.9, "2": 0.7, "3": 0.8}}
    line = record(objective=objective, decision_position=None, chance=chance)
    line["diagnosis"]["forced_vs_free"] = moves
    assert StudyRun.from_json(line).others == (others if taken else 0.5)


def test_an_answer_of_one_symbol_which_is_the_decision():
    """Catches: a finished run that cannot be read, and a study that stops at it for ever."""
    alone = {name: value for name, value in record()["metrics"].items() if "position" not in name}
    line = record(decision_position=1, metrics=alone | {"forced/position_1": 0.5, "free/position_1": 0.5})
    assert StudyRun.from_json(line).others is None


def test_what_is_appended_is_read(tmp_path):
    """Catches: runs that lose digits, order or keys on their way through the file."""
    path = tmp_path / "new folder" / "results.jsonl"
    assert results_file.read_results(path) == []
    records = [record(seed=seed, exact=1 / (3 + seed)) for seed in range(3)]
    for entry in records:
        results_file.append_result(path, entry)
    assert results_file.read_results(path) == [StudyRun.from_json(entry) for entry in records]
    assert [json.loads(line) for line in path.read_text().splitlines()] == records
    assert path.read_text().count("\n") == 3


def test_a_file_cut_anywhere_loses_only_the_run_that_was_being_written(tmp_path, caplog):
    """Catches: a torn line glued to the next one, a whole line cut off with it, or a line read twice."""
    path = tmp_path / "results.jsonl"
    for seed in range(2):
        results_file.append_result(path, record(seed=seed))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in [*range(first, len(whole), 43), len(whole) - 2, len(whole) - 1, len(whole)]:
        caplog.clear()
        path.write_bytes(whole[:cut])
        kept = [0, 1] if cut >= len(whole) - 1 else [0]
        assert seeds(path) == kept
        assert ("line 2 is torn" in caplog.text) == (first < cut < len(whole) - 1)
        results_file.append_result(path, record(seed=2))
        caplog.clear()
        assert seeds(path) == [*kept, 2]
        assert not caplog.records
        assert len(path.read_bytes().splitlines()) == len(kept) + 1


def test_the_very_first_line_may_be_torn(tmp_path):
    """Catches: a study that can never start again because its first write was killed."""
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"recipe":"ha')
    assert results_file.read_results(path) == []
    results_file.append_result(path, record())
    assert seeds(path) == [0]


@pytest.mark.parametrize("damage", [b"{", b"5", b"null", b'{"recipe":"hans","seed":1}', b"\xff\xfe", b'"recipe"'])
def test_damage_in_the_middle_is_named_not_skipped(damage, tmp_path):
    """Catches: finished runs dropped in silence, or run again, because a line before the last is no run."""
    path = tmp_path / "results.jsonl"
    lines = [json.dumps(record(seed=seed)).encode() for seed in range(2)]
    path.write_bytes(b"\n".join([lines[0], damage, lines[1], b""]))
    with pytest.raises(ValueError, match=r"results\.jsonl, line 2 is damaged .*; remove that line"):
        results_file.read_results(path)


@pytest.mark.parametrize(
    ("what", "old", "error"),
    [
        ("task", "1.0.0", "1.0.0 of path_star, which is version 2.0.0"),
        ("objective", "9", "9 of next_token, which is version 1"),
    ],
)
def test_a_line_of_another_definition_is_named(what, old, error, tmp_path):
    """Catches: runs of another definition of a task or objective in one row with those of today's, or an objective
    that diverged and is not run again, though it was mended; a study that stops
    at another recipe's objective of one's own, which it need not import."""
    path = tmp_path / "results.jsonl"
    lines = [{**record(seed=seed), "versions": {"task": "2.0.0", "objective": "1"}} for seed in range(3)]
    lines[1]["arguments"] = {**lines[1]["arguments"], "objective": {"objective": "elsewhere.Mine"}}
    results_file.append_result(path, lines[0])
    results_file.append_result(path, lines[1])
    assert seeds(path) == [0, 1]
    lines[2]["versions"][what] = old
    results_file.append_result(path, lines[2])
    results_file.append_result(path, {**lines[2], "seed": 3})
    with pytest.raises(ValueError, match=rf"lines that are old: 3, 4 .of version {error} now.; remove them and"):
        results_file.read_results(path)
    for line in lines:
        results_file.append_result(results_file.diverged_file(path), line)
    with pytest.raises(ValueError, match=rf"diverged.jsonl, lines that are old: 3 .of version {error} now.; remove"):
        results_file.read_diverged(path)


def test_a_line_of_other_code_of_ones_own_is_named(tmp_path, monkeypatch):
    """Catches: an objective of one's own that was edited, and is pooled with its runs of before, as nobody raised its
    VERSION; a line refused that was written when the version alone was."""
    monkeypatch.syspath_prepend(tmp_path)
    code = "import nt_failures as ntf\n\nclass Mine(ntf.NextToken):\n    scale = 1\n"
    (tmp_path / "edited_objective.py").write_text(code)
    now = definition(find_objective("edited_objective.Mine"))
    line = record() | {"versions": {"objective": now}}
    line["arguments"]["objective"] = {"objective": "edited_objective.Mine"}
    path = tmp_path / "results.jsonl"
    results_file.append_result(path, line)
    results_file.append_result(path, {**line, "seed": 1, "versions": {"objective": "1"}})
    assert seeds(path) == [0, 1]
    (tmp_path / "edited_objective.py").write_text(code.replace("1", "2"))
    with pytest.raises(ValueError, match=r"lines that are old: 1 .of version 1, code \w{12} of edited_objective.Mine"):
        results_file.read_results(path)


def test_empty_lines_are_no_damage(tmp_path):
    """Catches: a study lost to an editor that ends files with an empty line."""
    path = tmp_path / "results.jsonl"
    path.write_text("\n" + json.dumps(record()) + "\n\n")
    assert seeds(path) == [0]


def test_the_file_of_diverged_runs(tmp_path):
    """Catches: a damaged line read as a run, or a torn one that stops the study."""
    results = tmp_path / "results.jsonl"
    assert results_file.read_diverged(results) == []
    path = results_file.diverged_file(results)
    results_file.append_result(path, lost(0))
    with path.open("a") as file:
        file.write('{"recipe": ')
    assert results_file.read_diverged(results) == [read_key(lost(0))]
    path.write_text('{"recipe": "a", "seed": "0", "fingerprint": "b", "diverged": "c"}\n')
    with pytest.raises(ValueError, match=r"diverged\.jsonl, line 1 is damaged .* must be recipe, seed and fingerprint"):
        results_file.read_diverged(results)


def test_the_runs_of_a_study_are_those_of_its_present_recipes(tmp_path):
    """Catches: runs before and after a change under one name, a doubled line as one more seed, a seed that was finished
    and is said to have diverged, another form's results in the place of those that diverged, a tuning seed
    that diverged among those that are reported."""
    results = tmp_path / "results.jsonl"
    for line in (record(seed=0, exact=0.5), record(seed=0, exact=0.9), record(seed=1, fingerprint="earlier")):
        results_file.append_result(results, line)
    for line in (lost(0), lost(2), lost(2), lost(3, fingerprint="earlier"), lost(4, recipe="cure")):
        results_file.append_result(results_file.diverged_file(results), line)
    runs, diverged = results_file.read_study(results, {"hans": "0123456789ab"})
    assert [(run.key.seed, run.exact) for run in runs] == [(0, 0.5)]
    assert [key.seed for key in diverged] == [2]
    assert results_file.read_study(results, {"cure": "changed"}) == ([], [])
    tuning = results_file.diverged_file(tmp_path / "tuning.jsonl")
    results_file.append_result(tuning, lost(1000))
    assert len(results_file.read_study(results, {"hans": "0123456789ab"})[1]) == 1


def test_a_task_that_is_not_imported_is_no_damage(tmp_path):
    """Catches: advice to remove the lines of finished runs, whose task's module was not named this time."""
    path = tmp_path / "results.jsonl"
    results_file.append_result(path, record(arguments={"data": {"task": "my_tasks.Mine"}}))
    with pytest.raises(NotImported, match=r"my_tasks"):
        results_file.read_results(path)
