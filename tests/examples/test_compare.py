"""examples/studies/compare.py with a stand-in for the run: what is tuned, what is chosen, what is reported,
restarted."""

import json

import pytest
import yaml
from scripts import STUDIES, load
from small_studies import Runs
from study_records import record, summarise

from nt_failures.experiments.study import engine, results_file
from nt_failures.experiments.study import figures as study_figures
from nt_failures.experiments.study.job import Ended
from nt_failures.experiments.study.results_file import StudyRun
from nt_failures.experiments.study.summary import comparison_table


class Marked(Runs):
    """In place of an engine: leaves a mark for each run, and gives the results that the rate has."""

    def one(self, job):
        name = job.recipe.stem
        rate = float(job.extra[job.extra.index("--learning_rate") + 1]) if "--learning_rate" in job.extra else None
        (self.folder / "marks" / f"{name} {job.seed} {rate}").touch()
        made = json.loads((self.folder / f"{name}.json").read_text())[str(rate)]
        if made == "failed":
            return Ended(job, failed="out of memory", log="its words")
        return Ended(job, diverged="the loss became NaN") if made is None else Ended(job, results=made)


def results(curve, exact):
    """A run of 400 steps with 1e12 FLOPs and this validation curve."""
    made = {k: v for k, v in record(exact=exact, curve=curve).items() if k not in ("recipe", "seed", "fingerprint")}
    return made | {"steps": 400, "flops": 1e12}


WATCHED = "task: path_star\nuse_cpu: true\nmax_steps: 400\neval_strategy: steps\neval_steps: 100\n"
NEVER, LATE, SOON = [(100, 0.5), (400, 0.6)], [(100, 0.5), (400, 0.96)], [(100, 0.5), (200, 0.97), (400, 0.99)]


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """Recipes `cure` (solves sooner at twice its rate) and `hans` (never solves), and compare.py with a stand-in for
    the run."""
    (tmp_path / "marks").mkdir()
    monkeypatch.setattr(engine, "of", lambda args, folder: Marked(tmp_path))
    for name, by_rate in {
        "cure": {"0.001": results(NEVER, 0.6), "0.002": results(LATE, 0.96), "0.004": results(SOON, 0.99)},
        "hans": {"0.001": results(NEVER, 0.6), "0.002": results(NEVER[:1], 0.5), "0.004": results(NEVER[:1], 0.5)},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(by_rate))
    (tmp_path / "graph.yaml").write_text("learning_rate: 0.002\n" + WATCHED)
    (tmp_path / "objectives.yaml").write_text("objectives: {cure: {objective: teacherless}, hans: {order: reversed}}\n")
    return tmp_path, load(STUDIES / "compare.py").main


def run(setting, *flags):
    folder, main = setting
    files = [str(folder / "graph.yaml"), "--objectives", str(folder / "objectives.yaml")]
    main([*files, "--output_dir", str(folder / "out"), "--seeds", "2", "--jobs", "1", *flags])


def marks(setting):
    return sorted(mark.name for mark in (setting[0] / "marks").iterdir())


TUNING = [f"{name} 1000 {rate}" for name in ("cure", "hans") for rate in (0.001, 0.002, 0.004)]
SEEDS = [f"{name} {seed} {rate}" for name, rate in (("cure", 0.004), ("hans", 0.001)) for seed in (0, 1)]


def test_the_best_rate_is_chosen_and_reported_apart_from_the_tuning(setting):
    """Catches: a rate chosen on reported seeds, the same rate for all, the last one instead of the best."""
    run(setting)
    assert marks(setting) == sorted(TUNING + SEEDS)
    reported = results_file.read_results(setting[0] / "out" / "results.jsonl")
    assert sorted((r.key.recipe, r.key.seed) for r in reported) == [("cure", 0), ("cure", 1), ("hans", 0), ("hans", 1)]
    lines = (setting[0] / "out" / "comparison.md").read_text().splitlines()
    assert lines[2].startswith("| cure | x 2 | 2 of 2 [34%, 100%] | 200 | 5.0e+11 | 99.0% |")
    assert lines[3].startswith("| hans | x 0.5 | 0 of 2 [0%, 66%] | > 400 | - | 60.0% |")
    assert (setting[0] / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_run_twice(setting):
    """Catches: tuning done again at every call, seeds lost when more are asked for."""
    run(setting)
    for mark in (setting[0] / "marks").iterdir():
        mark.unlink()
    run(setting)
    run(setting, "--only_report")
    assert marks(setting) == []
    run(setting, "--seeds", "3")
    assert marks(setting) == ["cure 2 0.004", "hans 2 0.001"]


def test_a_report_starts_no_engine(setting, monkeypatch):
    """Catches: a cluster asked for, or a package that is missing, for a table of runs that are there."""
    run(setting)
    table = setting[0] / "out" / "comparison.md"
    before = table.read_text()
    table.unlink()
    monkeypatch.setattr(engine, "of", None)
    run(setting, "--only_report")
    assert table.read_text() == before


def test_a_grid_of_one_needs_no_tuning(setting):
    """Catches: runs whose figures decide nothing."""
    run(setting, "--rates", "2")
    assert marks(setting) == [f"{name} {seed} 0.004" for name in ("cure", "hans") for seed in (0, 1)]


def test_some_entries_of_the_list(setting):
    """Catches: an entry that nobody asked for, run or reported; a run of the whole list that makes these again."""
    run(setting, "--rates", "2", "--entries", "hans")
    assert marks(setting) == ["hans 0 0.004", "hans 1 0.004"]
    assert "| cure |" not in (setting[0] / "out" / "comparison.md").read_text()
    for mark in (setting[0] / "marks").iterdir():
        mark.unlink()
    run(setting, "--rates", "2")
    assert marks(setting) == ["cure 0 0.004", "cure 1 0.004"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--entries", "cure", "teacherless"], "has no entry 'teacherless'; it has cure, hans"),
        (["--seeds", "0"], "must be at least 1"),
        (["--rates", "0"], "every one of --rates a finite number above 0"),
        (["--seed", "3"], "--seed is set for each run"),
        (["--order=reversed"], "--order is what the runs differ in"),
        (["--objective", "hybrid"], "--objective is what the runs differ in"),
        (["--only_report"], "holds no finished run"),
        (["--learning_rate", "0.1"], "--learning_rate is what the runs differ in"),
        (["--optimizer=muon"], "--optimizer is what the runs differ in"),
        (
            ["--path_length", "6"],
            "--path_length sets options of the objectives, too; give it in the recipe, or by --grid",
        ),
        (["--task", "addition"], "--task sets options of the objectives, too"),
        (["--grid", "num_train_epochs=1,3", "--max_steps", "400"], "--num_train_epochs would change nothing"),
        (["--eval_strategy", "no"], "evaluates nothing on the way"),
        (["--eval_steps", "500"], "evaluates nothing on the way"),
    ],
)
def test_bad_arguments(flags, message, setting):
    """Catches: a comparison of nothing, or of one seed with itself."""
    with pytest.raises(ValueError, match=message):
        run(setting, *flags)
    assert marks(setting) == []


def test_a_rate_that_diverges_is_not_chosen(setting):
    """Catches: a comparison that never gets to its seeds as one rate of one objective ends in NaN, and tries it at
    every start."""
    made = json.loads((setting[0] / "cure.json").read_text())
    (setting[0] / "cure.json").write_text(json.dumps(made | {"0.004": None}))
    run(setting)
    lines = (setting[0] / "out" / "comparison.md").read_text().splitlines()
    assert lines[2].startswith("| cure | x 1 | 2 of 2 [34%, 100%] | 400 |")
    (setting[0] / "marks" / "cure 1000 0.004").unlink()
    run(setting)
    assert "cure 1000 0.004" not in marks(setting)


def test_seeds_that_diverge_are_told(setting):
    """Catches: seeds that vanish from the solve probability, an objective that vanishes from the table."""
    for name, made in (("cure", {"0.004": None}), ("hans", {"0.004": results(LATE, 0.96)})):
        (setting[0] / f"{name}.json").write_text(json.dumps(made))
    run(setting, "--rates", "2")
    table = (setting[0] / "out" / "comparison.md").read_text()
    assert table.splitlines()[2].startswith("| hans | x 2 | 2 of 2")
    assert "Without a finished run, so not in the table: cure." in table


@pytest.mark.parametrize("rates", [{"0.001": "failed"}, {"0.001": results(LATE, 0.96), "0.002": "failed"}])
def test_an_entry_that_fails_is_told_and_the_others_go_on(rates, setting):
    """Catches: no seed of any entry run, and no table made, as one entry fails in its tuning; exit code 0 after it."""
    made = json.loads((setting[0] / "hans.json").read_text())
    (setting[0] / "hans.json").write_text(json.dumps(made | rates))
    with pytest.raises(ChildProcessError, match=r"^hans, seed 1000 failed: out of memory \(log: .*1000.txt\)$"):
        run(setting)
    assert (setting[0] / "out" / "failed" / "hans-seed1000.txt").read_text() == "its words"
    assert [mark for mark in marks(setting) if mark.startswith("cure")] == sorted(
        name for name in TUNING + SEEDS if name.startswith("cure")
    )
    table = (setting[0] / "out" / "comparison.md").read_text()
    assert table.splitlines()[2].startswith("| cure | x 2 | 2 of 2")
    assert "Without a finished run, so not in the table: hans." in table
    run(setting, "--only_report")
    assert (setting[0] / "out" / "comparison.md").read_text() == table


def test_nothing_but_failures(setting):
    """Catches: an error on missing runs in place of the reason why they are missing."""
    for name in ("cure", "hans"):
        (setting[0] / f"{name}.json").write_text(json.dumps(dict.fromkeys(("0.001", "0.002", "0.004"), "failed")))
    with pytest.raises(ChildProcessError, match=r"^cure, seed 1000 failed: out of memory .*; hans, seed 1000 failed: "):
        run(setting)
    with open(setting[0] / "out" / "results.jsonl", "w", encoding="utf-8") as file:
        file.write("damaged\n\n")
    (setting[0] / "cure.json").write_text(json.dumps(dict.fromkeys(("0.001", "0.002", "0.004"), results(SOON, 0.99))))
    with pytest.raises(ValueError, match="line 1 is damaged"):  # and no word of hans, which would hide it
        run(setting)


MUON = "optimizer: muon\nmuon_learning_rate: 0.02\nlearning_rate: 0.002\n" + WATCHED


def test_both_rates_of_muon_are_tuned(setting):
    """Catches: Muon's rate, that of the matrices, tried once under the name of three."""
    folder, main = setting
    (folder / "graph.yaml").write_text(MUON)
    args = main.__globals__["parse"]([str(folder / "graph.yaml"), "--max_steps", "9"])
    made = main.__globals__["flags"](folder / "graph.yaml", 2.0, args)
    assert made == ("--learning_rate", "0.004", "--muon_learning_rate", "0.04", "--max_steps", "9")


def test_more_tuning_seeds(setting):
    """Catches: one tuning seed whatever is asked; a rate at which a seed diverged chosen for the others' accuracy."""
    run(setting, "--tuning_seeds", "2")
    assert {mark.split()[1] for mark in marks(setting)} == {"0", "1", "1000", "1001"}
    score = setting[1].__globals__["_score"]
    half, most = (StudyRun.from_json(record(exact=exact, curve=[(100, exact)])) for exact in (0.4, 0.9))
    assert score([half, half]) > score([half.key, most])


def test_other_rates_are_not_reported_as_these(setting):
    """Catches: runs at the recipe's own rates shown as those of a rate that nobody has tuned."""
    run(setting, "--rates", "2")
    with pytest.raises(ValueError, match="cure was not tuned with these flags and --rates"):
        run(setting, "--only_report")
    with pytest.raises(ValueError, match="holds no finished run of these recipes with these flags"):
        run(setting, "--only_report", "--rates", "0.5")


def test_a_rate_as_yaml_reads_it(setting):
    """Catches: 2e-3, which YAML takes for text, multiplied as such."""
    (setting[0] / "graph.yaml").write_text("learning_rate: 2e-3\n" + WATCHED)
    run(setting)
    assert marks(setting) == sorted(TUNING + SEEDS)


class AtPoints(Marked):
    """In place of an engine: `cure` solves with a wide model alone; the learning rate of the recipe or the flag is
    marked."""

    def one(self, job):
        values = yaml.safe_load(job.text)
        flags = dict(zip(job.extra[::2], job.extra[1::2], strict=True))
        rate = float(flags.get("--learning_rate", values["learning_rate"]))
        model = values.get("model", "default")
        (self.folder / "marks" / f"{values.get('objective', 'hans')} {job.seed} {rate:g} {model}").touch()
        solves = model == "gpt2-1x32" and "objective" in values
        return Ended(job, results=results(SOON, 0.99) if solves else results(NEVER, 0.6))


@pytest.fixture
def sweep(setting, monkeypatch):
    monkeypatch.setattr(engine, "of", lambda args, folder: AtPoints(setting[0]))
    return setting


MODEL = ("gpt2-1x16", "gpt2-1x32")
MODELS = ["--grid", f"model={','.join(MODEL)}"]


def cells(setting):
    """The rows of the table, each by its head."""
    lines = (setting[0] / "out" / "comparison.md").read_text().splitlines()
    head, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_every_entry_runs_at_every_point(sweep):
    """Catches: a point that is chosen among and not reported, one of one entry alone, values that no column shows."""
    run(sweep, *MODELS, "learning_rate=1e-3,2e-3")
    names = [(name, rate, model) for name in ("teacherless", "hans") for rate in ("0.001", "0.002") for model in MODEL]
    assert marks(sweep) == sorted(f"{name} {seed} {rate} {model}" for name, rate, model in names for seed in (0, 1))
    shown = {(row["objective"], row["model"], row["learning_rate"]): row["solved"][:6] for row in cells(sweep)}
    assert len(shown) == 8
    assert {point for point, solved in shown.items() if solved == "2 of 2"} == {
        ("cure", "gpt2-1x32", "0.001"),
        ("cure", "gpt2-1x32", "0.002"),
    }


def test_another_grid_runs_only_what_is_missing(sweep):
    """Catches: points run again because the grid has another value or another axis, or because the recipe's own value
    is written in another way; points of an earlier grid in the table."""
    run(sweep, "--rates", "1")
    before = marks(sweep)
    assert before == [f"{name} {seed} 0.002 default" for name in ("hans", "teacherless") for seed in (0, 1)]
    for mark in (sweep[0] / "marks").iterdir():
        mark.unlink()
    run(sweep, "--grid", "learning_rate=0.004,2e-3")
    assert marks(sweep) == [f"{name} {seed} 0.004 default" for name in ("hans", "teacherless") for seed in (0, 1)]
    run(sweep, "--grid", "learning_rate=2e-3", "model=gpt2-1x32")
    assert len(marks(sweep)) == 8
    assert [row["learning_rate"] for row in cells(sweep)] == ["0.002", "0.002"]
    before = marks(sweep)
    (sweep[0] / "marks" / before[0]).unlink()
    run(sweep, "--grid", "learning_rate=0.004,2e-3")
    assert marks(sweep) == before[1:]
    assert {row["learning_rate"] for row in cells(sweep)} == {"0.002", "0.004"}


def test_one_change_at_a_time(sweep):
    """Catches: all combinations, the recipe itself missing, a change without a column or one that hides the others."""
    run(sweep, "--grid", "model=gpt2-1x32", "learning_rate=1e-3", "--one_at_a_time")
    points = [("0.002", "default"), ("0.001", "default"), ("0.002", "gpt2-1x32")]
    names = ("teacherless", "hans")
    assert marks(sweep) == sorted(f"{name} {seed} {' '.join(at)}" for name in names for seed in (0, 1) for at in points)
    shown = {(row["learning_rate"], row["model"]) for row in cells(sweep)}
    assert shown == {("0.002", "-"), ("0.001", "-"), ("0.002", "gpt2-1x32")}


def test_each_point_has_a_rate_of_its_own(sweep):
    """Catches: rates tuned at one point for all of the others, reported seeds among those of the tuning."""
    run(sweep, *MODELS)
    tuned = [mark for mark in marks(sweep) if " 1000 " in mark]
    assert len(tuned) == 2 * 2 * 3
    assert len(marks(sweep)) == len(tuned) + 2 * 2 * 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rates", "2", "--grid", "learning_rate=1"], "--rates would be times each learning_rate of --grid"),
        (["--one_at_a_time"], "give a --grid"),
        (["--grid", "order=forward,reversed"], "--grid order: objectives are compared by the list of --objectives"),
        (["--grid", "seed=1,2"], "--grid seed: it is set for each run"),
        (["--grid", "model=gpt2-1x16", "--model", "gpt2-1x32"], "--model is what the runs differ in"),
        (["--grid", "modle=gpt2-1x16"], "unknown name 'modle'.*'model'"),
        (["--grid", "num_train=1e5"], "--num_train.* invalid int value"),
        (["--grid", "model=gpt2-1x16,gpt2-1xq"], "'gpt2-1xq' is no folder here, and could not be read as an id"),
        (["--grid", "config_overrides={n_head: 2},{n_heads: 2}"], "GPT2Config has no field 'n_heads'"),
    ],
)
def test_a_grid_that_cannot_be_swept(flags, message, sweep):
    """Catches: a point that fails after hours, a flag that overrides every point, rates of rates."""
    with pytest.raises((ValueError, OSError), match=message):
        run(sweep, *flags)
    assert marks(sweep) == []


def test_a_recipe_without_the_rate(setting):
    """Catches: a grid that is the same rate three times."""
    (setting[0] / "graph.yaml").write_text(WATCHED)
    with pytest.raises(ValueError, match="gives no learning_rate, which the grid is a multiple of"):
        run(setting)


def test_an_own_objective_is_imported_before_anything_runs(setting):
    """Catches: a typo in the list found after hours, results that cannot be read again as nobody imported their
    objective."""
    (setting[0] / "objectives.yaml").write_text("objectives: {mine: {objective: nobodys_module.Mine}}\n")
    with pytest.raises(ValueError, match="cannot import 'nobodys_module'"):
        run(setting)
    assert marks(setting) == []


def group(name, times, **changes):
    solved = [t for t in times if t is not None]
    made = {
        "name": name,
        "times": times,
        "ends": [400] * len(times),
        "steps": 400,
        "solved": len(solved),
        "seeds": len(times),
        "exact": 0.5,
    }
    return made | {"steps_to_solve": solved[0] if solved else None} | changes


def test_censored_runs_are_shown_as_such():
    """Catches: seeds that never solved left out, drawn as solved, or at the end of another seed."""
    groups = [group("hans", [None, None]), group("cure", [200, None], ends=[300, 250])]
    (axes,) = study_figures.time_to_solve(groups, "a study").axes
    shown = [(line.get_marker(), float(line.get_xdata()[0]), round(float(line.get_ydata()[0]))) for line in axes.lines]
    assert shown == [("o", 200.0, 1), (">", 250.0, 1), (">", 400.0, 0), (">", 400.0, 0)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cure", "hans"]
    assert [text.get_text() for text in axes.texts] == ["1 of 2", "0 of 2"]


def test_the_most_often_solved_stands_first():
    """Catches: an order by name, or by a mean that hides the lottery."""
    runs = [record("a", seed, exact) | {"flops": 1e12} for seed, exact in enumerate([0.94, 0.94])]
    runs += [record("b", seed, exact, curve=[(9, exact)]) | {"flops": 1e12} for seed, exact in enumerate([0.99, 0.1])]
    table = comparison_table([{**g, "rate": 1} for g in summarise(runs)])
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:4]] == ["b", "a"]
