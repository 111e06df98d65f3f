"""examples/train.py from end to end: what it prints and writes, how it refuses, resumes and replaces."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import nt_failures

TRAIN = Path(__file__).parents[2] / "examples" / "train.py"
TINY = [
    *("--degree", "2", "--path_length", "4", "--num_nodes", "10", "--num_train", "64", "--num_validation", "16"),
    *("--num_test", "40", "--model", "gpt2-1x16", "--max_steps", "4", "--eval_steps", "2", "--use_cpu", "true"),
    *("--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "16", "--sample_rows", "2"),
]


def start(cache, *command):
    """Run a command as a user would, without a network, with a cache of datasets of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder and the output of a run by `accelerate launch`, from the quickstart recipe with tiny settings.

    Two processes are asked for, of which accelerate starts one on a CPU.
    """
    folder = tmp_path_factory.mktemp("first")
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
    launch += ("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1")
    done = start(folder / "cache", *launch, TRAIN, *TINY, "--output_dir", folder / "run")
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    return folder / "run", done.stdout


@pytest.fixture
def train(tmp_path, monkeypatch):
    """`train(*flags)`: the script in this process; returns the code and message of its exit."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run(*flags):
        monkeypatch.setattr(sys, "argv", [str(TRAIN), *map(str, flags)])
        try:
            runpy.run_path(str(TRAIN), run_name="__main__")
        except SystemExit as stop:
            return stop.code

    return run


def test_a_run_prints_its_table_and_its_verdict(first):
    """Catches: a final table without one of the positions, n, intervals or chance; a verdict that is not shown."""
    folder, out = first
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert out.startswith("PathStar(degree=2, path_length=4, num_nodes=10): next_token, forward order, seed 0\n")
    for line in ("1 ", "2 <- decision", "3 ", "4 ", "whole path"):
        assert f"\n{line}" in out
    assert "n = 40 different held-out graphs, 95 % intervals in brackets, chance at the decision 50.0 %" in out
    assert results["diagnosis"]["verdict"]["text"] in " ".join(out.split())
    assert out.splitlines()[-2].startswith("4 steps in ")
    assert "step 2\n" in out  # the samples of the first evaluation


def test_a_run_leaves_model_tokenizer_arguments_and_results(first):
    """Catches: a model that cannot be loaded without this library, or that does not answer with a path."""
    folder, _ = first
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    arguments = json.loads((folder / "arguments.json").read_text(encoding="utf-8"))
    assert {**results["arguments"], "processes": 1} == arguments
    assert arguments["task"] == {"degree": 2, "path_length": 4, "num_nodes": 10}
    assert (results["n"], results["steps"], results["examples"]) == (40, 4, 32)
    assert [entry["step"] for entry in results["learning_curve"]] == [2, 4]
    assert set(results["metrics"]) >= {f"{way}/position_{k}" for way in ("forced", "free") for k in (1, 2, 3, 4)}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("0,1|1,2|2,3|0,4|4,5|5,6/0,3=", return_tensors="pt").input_ids
    assert model.generate(ids).shape == (1, ids.shape[1] + 4)
    loaded = nt_failures.load(str(folder))
    assert (loaded.task, loaded.objective.order) == (nt_failures.PathStar(2, 4, 10), "forward")


def test_one_process_instead_of_two_is_said(first):
    """Catches: a launcher that quietly starts one process; a note among the results on standard output."""
    folder, out = first
    said = (folder.parent / "stderr.txt").read_text(encoding="utf-8")
    assert "torchrun --nproc_per_node 2 examples/train.py ..." in said
    assert "accelerate launch --config_file examples/accelerate_configs/cpu_2.yaml examples/train.py ..." in said
    assert "torchrun" not in out


def test_the_same_command_again_is_refused(first):
    """Catches: results overwritten, a traceback, or an exit code of 0."""
    folder, _ = first
    before = (folder / "results.json").stat().st_mtime_ns
    done = start(folder.parent / "cache", TRAIN, *TINY, "--output_dir", folder)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: output_dir ")
    assert "--overwrite_output_dir" in line
    assert done.stdout == ""
    assert (folder / "results.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_step", "3"], "command line: unknown name 'max_step'. Did you mean 'max_steps'?"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--recipe", "grpo"], "unknown name 'model_name_or_path'. Did you mean 'model'?"),
        (["--objective", "teacherles"], "Did you mean 'teacherless'?"),
        (["--order", "backward"], "give one of 'forward', 'reversed'"),
        (["--objective_options", '{"position": [1]}'], "NextToken has no option 'position'. Did you mean 'positions'?"),
        (["--config_overrides", '{"n_heads": 1}'], "GPT2Config has no field 'n_heads'. Did you mean 'n_head'?"),
        (["--overlap", "some"], "overlap='some'"),
        (["none.yaml"], "recipe none.yaml does not exist"),
    ],
)
def test_mistakes_are_one_line(train, tmp_path, flags, message, capsys):
    """Catches: a traceback, or a page of usage, for a typo."""
    recipe = [flags[0]] if flags[0].endswith(".yaml") else []
    message_shown = train(*recipe, *TINY, "--output_dir", tmp_path / "run", *flags[len(recipe) :])
    assert message_shown.startswith("error: ")
    assert message in message_shown
    assert "\n" not in message_shown
    assert "PathStar" not in capsys.readouterr().out  # it stops before the training begins


def test_a_mistake_costs_no_earlier_run(train, tmp_path):
    """Catches: a folder that is cleared for a run with a typo in it, which then never begins."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "arguments.json").write_text("{}", encoding="utf-8")
    flags = [*TINY, "--output_dir", folder, "--overwrite_output_dir"]
    alone = ["--objective", "next_token", "--objective_options", '{"positions": [7]}']
    for mistake in (
        alone,
        ["--objective", "teacherles"],
        ["--order", "backward"],
        ["--degree", "9"],
        ["--max_step", "1"],
    ):
        assert train(*flags, *mistake).startswith("error: ")
        assert (folder / "arguments.json").read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize(
    "mistake",
    [
        ("--objective", "teacherles"),
        ("--order", "backward"),
        ("--overlap", "some"),
        ("--config_overrides", '{"n_heads": 1}'),
        ("--tokenizer", "nowhere/at all"),
    ],
)
def test_the_folder_is_spoken_of_last(train, tmp_path, mistake):
    """Catches: a user who gives another folder, or clears one, and only then hears of another flag."""
    (tmp_path / "thesis.tex").write_text("years", encoding="utf-8")
    assert train(*TINY, "--output_dir", tmp_path).startswith("error: output_dir ")
    assert "output_dir" not in train(*TINY, "--output_dir", tmp_path, *mistake)


def test_runs_go_on_and_are_replaced(train, tmp_path):
    """Catches: a resumed run that starts again, a replaced run that resumes; a stream or another objective refused."""
    folder = tmp_path / "run"
    flags = [*TINY, "--output_dir", folder, "--save_strategy", "steps", "--save_steps", "2"]

    def results():
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))

    what = ("--objective", "teacherless", "--order", "reversed", "--streaming")
    assert train(*flags, *what) is None
    assert results()["arguments"]["objective"]["objective"] == "teacherless"
    more = ("--resume", "--max_steps", "6")
    assert "resume it with the arguments it began with" in train(*flags, *more)
    assert train(*flags, *what, *more) is None
    assert [entry["step"] for entry in results()["learning_curve"]] == [2, 4, 6]
    assert train(*flags, "--objective", "hybrid", "--overwrite_output_dir") is None
    assert [entry["step"] for entry in results()["learning_curve"]] == [2, 4]
    assert "parallel/exact" in results()["metrics"]
