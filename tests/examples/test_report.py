"""examples/report.py: folders, studies and Hub ids in one table, one figure and one CSV."""

import csv
import json

import pytest
from scripts import EXAMPLES, load

RESULTS = EXAMPLES / "results"


@pytest.fixture
def report(tmp_path):
    """`report(*words)`: the lines of report.md and of report.csv."""

    def make(*words):
        load(EXAMPLES / "report.py").main([*map(str, words), "--csv", "--output_dir", str(tmp_path / "out")])
        assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
        with open(tmp_path / "out" / "report.csv", encoding="utf-8", newline="") as file:
            return (tmp_path / "out" / "report.md").read_text().splitlines(), [*csv.DictReader(file)]

    return make


def test_committed_studies(report):
    """Catches: figures other than those that the studies' own tables show of the same lines."""
    lines, runs = report(RESULTS / "quickstart", RESULTS / "quickstart-reversed")
    found = []
    for line, study, order in zip(
        lines[2:4], ("quickstart", "quickstart-reversed"), ("forward", "reversed"), strict=True
    ):
        own = (RESULTS / study / "table.md").read_text().splitlines()[2].split(" | ", 1)[1]
        assert line == f"| {RESULTS / study}: quickstart | {order} | {own}"
        logged = (RESULTS / study / "results.jsonl").read_text().splitlines()
        found += [(order, str(json.loads(row)["seed"])) for row in logged]
    assert [(run["order"], run["seed"]) for run in runs] == found


@pytest.mark.hub
def test_a_folder_and_a_run_on_the_hub(report, finished, online):
    """Catches: a run on the Hub that is not read, one that is given twice counted twice, weights that are fetched for
    its table."""
    folder, other = finished(), finished("teacherless")
    files = {path.name: path.read_bytes() for path in other.iterdir() if path.is_file()}
    online.create("tester/cure").commit(files, "a run")
    lines, runs = report(folder, "tester/cure", folder)
    assert [line.split(" | ")[:2] for line in lines[2:4]] == [
        [f"| {folder}", "next_token"],
        ["| tester/cure", "teacherless"],
    ]
    assert [run["objective"] for run in runs] == ["next_token", "teacherless"]
    assert not [path for _, path in online.requests if path.endswith(".safetensors")]


def test_folders_without_a_run_are_passed_over(report, tmp_path, capsys):
    """Catches: `outputs/*` that ends in an error for its own folder of reports; a folder left out without a word."""
    (tmp_path / "report").mkdir()
    study = str(RESULTS / "quickstart")
    lines, runs = report(study, tmp_path / "report")
    assert f"passed over, as they hold no finished run: {tmp_path / 'report'}" in capsys.readouterr().err
    assert lines[2].startswith(f"| {study}: quickstart |")
    assert len(runs) == 5
    with pytest.raises(ValueError, match="holds a finished run"):
        report(tmp_path / "report", tmp_path)


def test_no_runs_by_accident(report, tmp_path):
    """Catches: a report of no run, a traceback for a name that is none."""
    with pytest.raises(ValueError, match="has no results"):
        report(tmp_path)
    with pytest.raises(ValueError, match="is no folder, and no repository can have that name"):
        report(tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
