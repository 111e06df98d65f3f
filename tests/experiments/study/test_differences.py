"""Finished runs side by side: what differs in their arguments, what shares a row, and what a line of CSV holds."""

import csv
import io
import json
from pathlib import Path

import pytest
from study_records import record

from nt_failures.experiments.study import differences


def run(folder, exact=0.5, seed=0, **parts):
    """The folder of a run of G(2, 4); `parts` are what its arguments say otherwise."""
    made = {k: v for k, v in record(seed=seed, exact=exact).items() if k not in ("recipe", "seed", "fingerprint")}
    arguments = {
        "task": {"degree": 2, "path_length": 4},
        "data": {"task": "path_star", "num_train": 100},
        "model": {"model": "gpt2-4x64", "config_overrides": {"n_head": 2}},
        "objective": {"objective": "next_token", "order": "forward", "objective_options": {}},
        "training": {"seed": seed, "max_steps": 2000},
    }
    made["arguments"] = {part: {**values, **parts.get(part, {})} for part, values in arguments.items()}
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({**made, "versions": parts.get("versions", {"torch": "2.9"})}))
    return str(folder)


def read(*folders):
    return [found for folder in folders for found in differences.read_runs(folder)]


def rows_of(text):
    """The rows of the table, each by its head."""
    head, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_only_what_differs_is_a_column(tmp_path):
    """Catches: every argument of a run, the seed as one, an entry of a mapping shown as all of the mapping, a default
    that one run wrote down and another left out taken for a difference."""
    runs = read(
        run(tmp_path / "a", training={"learning_rate": 5e-5, "warmup_steps": 10}),
        run(tmp_path / "b", seed=1, model={"config_overrides": {"n_head": 4}}, training={"warmup_steps": 10.0}),
        run(tmp_path / "c", objective={"objective": "hybrid", "objective_options": {"share": 0.5}}),
    )
    assert differences.differing(runs) == [
        *("config_overrides.n_head", "objective", "warmup_steps", "objective_options.share")
    ]
    found = rows_of(differences.table(runs))
    assert [(row["objective"], row["warmup_steps"], row["objective_options.share"]) for row in found] == [
        ("next_token", "10", "-"),
        ("next_token", "10", "-"),
        ("hybrid", "0", "0.5"),
    ]
    assert [row["config_overrides.n_head"] for row in found] == ["2", "4", "2"]


def test_seeds_share_a_row_and_a_repeated_seed_does_not(tmp_path):
    """Catches: a run that was made twice counted as two seeds, the mean of two kinds of run, another order than
    asked for."""
    runs = read(
        run(tmp_path / "z", 0.4, seed=0),
        run(tmp_path / "cure", 0.99, objective={"order": "reversed"}),
        run(tmp_path / "y", 0.5, seed=1),
        run(tmp_path / "again", 0.4, seed=0),
    )
    first, cure, again = rows_of(differences.table(runs))
    assert [row["run"].rpartition("/")[2] for row in (first, cure, again)] == ["z and 1 more", "cure", "again"]
    assert first["solved"].startswith("0 of 2")
    assert first["exact, mean (range)"] == "45.0% (40.0% to 50.0%)"
    assert (cure["order"], cure["solved"]) == ("reversed", "1 of 1 [21%, 100%]")
    assert again["exact, mean (range)"] == "40.0%"
    assert [group["name"] for group in differences.groups(runs)] == [
        *("order=forward", "order=reversed", "order=forward (2)")
    ]


def test_many_differences_leave_the_figure_the_folders_name(tmp_path):
    """Catches: a label that is wider than the figure."""
    runs = read(
        run(tmp_path / "a", training={f"name_of_an_argument_{i}": i for i in range(9)}),
        run(tmp_path / "b", training={f"name_of_an_argument_{i}": i + 1 for i in range(9)}),
    )
    assert [group["name"] for group in differences.groups(runs)] == ["a", "b"]


def test_one_run_has_a_table_too(tmp_path):
    """Catches: an error, or an empty name, where nothing differs."""
    (group,) = differences.groups(read(run(tmp_path / "alone")))
    assert (group["name"], group["settings"]) == ("alone", {})


def test_other_versions_are_told(tmp_path):
    """Catches: a difference of two results that is one of their software."""
    same, other = run(tmp_path / "a"), run(tmp_path / "b", seed=1, versions={"torch": "2.13", "peft": "1"})
    text = differences.table(read(same, other))
    assert text.endswith("\n- versions.torch differs: 2.9, 2.13\n- versions.peft differs: -, 1\n")
    assert "differs" not in differences.table(read(same))


def test_a_line_for_each_run(tmp_path):
    """Catches: seeds merged, a row whose values are not under their heads, a name with a comma in two cells."""
    runs = read(run(tmp_path / "a,b", 0.25), run(tmp_path / "c", 0.75, seed=3, objective={"order": "reversed"}))
    text = io.StringIO()
    csv.writer(text).writerows(differences.rows(runs))
    first, second = csv.DictReader(io.StringIO(text.getvalue()))
    assert first["run"] == str(tmp_path / "a,b")
    assert [(line["order"], line["seed"], line["exact"], line["solved_at"]) for line in (first, second)] == [
        ("forward", "0", "0.25", ""),
        ("reversed", "3", "0.75", ""),
    ]
    assert (second["verdict"], second["train_seconds"]) == ("clever-hans + indecipherable token", "63.0")


def test_a_study_stands_for_its_runs(tmp_path):
    """Catches: a study whose lines are not found, and a seed that stands there twice counted twice, or shown with its
    second result, where the study's own table has the first."""
    key = {"recipe": "hans", "seed": 0, "fingerprint": "0123456789ab"}
    folders = [run(tmp_path / "a", exact=0.25), run(tmp_path / "b", exact=0.75)]
    lines = [json.loads(Path(folder, "results.json").read_text()) | key for folder in folders]
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = differences.read_runs(str(tmp_path / "study"))
    assert (found.name, found.study_run.exact) == (f"{tmp_path / 'study'}: hans", 0.25)


def test_a_seed_that_diverged_is_a_seed(tmp_path):
    """Catches: a solve probability over the seeds that did not diverge; a diverged seed of another recipe or form, one
    that ended later, there or in another study, or the same one in two copies of a study, counted."""
    line = json.loads((tmp_path / "a" / "results.json").read_text()) if run(tmp_path / "a", 0.99) else None
    key = {"recipe": "hans", "seed": 0, "fingerprint": "0123456789ab"}
    others = [{"seed": 1}, {"seed": 2}, {"seed": 2}, {}, {"recipe": "cure", "seed": 3}, {"seed": 4, "fingerprint": "f"}]
    for study in ("study", "copy"):
        (tmp_path / study).mkdir()
        (tmp_path / study / "results.jsonl").write_text(json.dumps(line | key))
        lost = "".join(json.dumps({**key, **other, "diverged": "nan"}) + "\n" for other in others)
        (tmp_path / study / "diverged.jsonl").write_text(lost)
    text = differences.table(read(str(tmp_path / "study")))
    assert rows_of(text)[0]["solved"].startswith("1 of 3")
    assert "Seeds that diverged, counted as not solved and left out of the means: study: hans: 2." in text
    both = differences.groups(read(str(tmp_path / "study"), str(tmp_path / "copy")))
    assert [group["seeds"] for group in both] == [3, 3]
    finished = line | key | {"seed": 2}
    finished["arguments"]["training"]["seed"] = 2
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "results.jsonl").write_text(json.dumps(finished))
    (group,) = differences.groups(read(str(tmp_path / "study"), str(tmp_path / "later")))
    assert (group["seeds"], group["diverged"]) == (3, 1)  # seeds 0 and 2 ended, seed 1 did not


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": None}, "is not that of a finished run"),
        ({"diagnosis": None}, "is not that of a finished run"),
        ({"metrics": {"free/exact": 2}}, r"is damaged \(.*; remove it, or give another run"),
        (None, "has no results.json; give the folder or the Hub id of a finished run"),
    ],
)
def test_what_is_no_finished_run_is_named(change, message, tmp_path):
    """Catches: a traceback, or an error that does not say which of many folders it is about."""
    folder = run(tmp_path / "a")
    path = tmp_path / "a" / "results.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message) as error:
        differences.read_runs(folder)
    assert str(error.value).startswith(folder)
