"""examples/diagnose.py: on a run of ours, on a model of somebody else, and on what it cannot diagnose."""

import dataclasses
import json
import runpy
import shutil
import sys
from pathlib import Path

import datasets
import pytest
import torch
from planted import byte_bpe
from scripts import EXAMPLES, load
from transformers import GPT2Config, GPT2LMHeadModel

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.hub.run_files import RUN_FILE
from nt_failures.tasks.path_star import PathStar

RUN = """
task: path_star
degree: 2
path_length: 4
num_nodes: 12
num_train: 24
num_validation: 16
num_test: 40
dataset_seed: 5
overlap: allow
model: gpt2-1x16
objective: next_token
max_steps: 3
per_device_train_batch_size: 8
per_device_eval_batch_size: 32
eval_strategy: steps
eval_steps: 3
save_strategy: "no"
sample_rows: 0
"""


@pytest.fixture(scope="module")
def diagnose():
    return load(EXAMPLES / "diagnose.py").main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, and its results.json."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
        (folder / "recipe.yaml").write_text(RUN)
        load(EXAMPLES / "train.py").main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "run")])
    return folder / "run", json.loads((folder / "run" / "results.json").read_text())


def stock(folder, tokenizer, positions=128):
    """A tiny GPT-2 that this library had no hand in."""
    torch.manual_seed(2)
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=positions, vocab_size=len(tokenizer))
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def strict(path):
    """JSON without NaN, which is none."""

    def refuse(name):
        raise AssertionError(f"{name} in {path}")

    return json.loads(path.read_text(), parse_constant=refuse)


def as_json(value):
    return json.loads(json.dumps(value))


# ---------------------------------------------------------------- what it writes


def test_on_a_run_of_ours(run, diagnose, tmp_path, capsys, monkeypatch):
    """Catches: other rows, another objective or another budget than the run's own; figures that the page lacks; rows
    called seen though the run's own arguments say that some may have been dropped."""
    folder, results = run
    asked = []
    monkeypatch.setitem(diagnose.__globals__, "seen_all", lambda *given: asked.append(given) or True)
    found = diagnose([str(folder), "--num_test", "40", "--output_dir", str(tmp_path / "out")])
    assert asked == [(24, 24, results["arguments"]["training"])]
    assert as_json(found) == strict(tmp_path / "out" / "diagnosis.json")
    for claim in ("forced_vs_free", "clever_hans", "learning_order"):
        assert as_json(found[claim]) == results["diagnosis"][claim]
    assert found["decision_token"]["accuracy"] == results["diagnosis"]["decision_token"]["accuracy"]
    assert found["decision_token"]["train_n"] == 24
    assert "after 3 steps (24 examples" in found["verdict"]["text"]
    names = ["diagnosis.json", "diagnosis.md", "forced_vs_free.png", "graph.png", "learning.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    page = (tmp_path / "out" / "diagnosis.md").read_text()
    assert all(f"]({name})" in page for name in names[2:])
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in names[2:])
    assert "`PathStar(degree=2, path_length=4, num_nodes=12)`, objective NextToken, order forward." in page
    out = capsys.readouterr().out
    assert found["verdict"]["text"] in " ".join(out.split())
    assert str(tmp_path / "out") in out


def test_flags_ask_about_another_size(run, diagnose, tmp_path):
    """Catches: flags that are ignored on a run of ours; instances called training rows that it was not trained on; a
    model called undertrained after the steps of its own size, or missed a learning order of this one."""
    folder, _ = run
    found = diagnose([str(folder), "--path_length", "3", "--num_test", "10", "--output_dir", str(tmp_path)])
    assert list(found["forced_vs_free"]["free"]) == [1, 2, 3]
    assert "train_accuracy" not in found["decision_token"]
    assert "path_length >= 4" in found["not_measured"]["clever_hans"]
    assert found["learning_order"] is None  # the curve is about the size that was trained
    assert "learning_order" not in found["not_measured"]
    assert found["verdict"]["name"] == "untrained or undertrained"
    assert "steps" not in found["verdict"]["text"]


def test_on_a_stock_model(diagnose, tmp_path, monkeypatch):
    """Catches: a need for anything but weights and tokenizer; an assumed objective passed off as known; a model called
    undertrained, or missed a learning order, of whose training nothing is known."""
    monkeypatch.chdir(tmp_path)
    task = PathStar(2, 4, 20)
    name = stock(tmp_path / "somebody" / "their-gpt2", byte_bpe(task, 300))
    (tmp_path / "somebody" / "their-gpt2" / "results.json").write_text('{"accuracy": 1.0}')  # of another tool
    (tmp_path / "somebody" / "their-gpt2" / "arguments.json").write_text('{"data": "wikitext"}')
    flags = ["--degree", "2", "--path_length", "4", "--num_nodes", "20", "--num_test", "30", "--batch_size", "8"]
    found = diagnose([name, *flags])
    folder = tmp_path / "outputs" / "diagnosis" / "somebody--their-gpt2-deg2-path4-nodes20"
    assert as_json(found) == strict(folder / "diagnosis.json")
    assert not (folder / "learning.png").exists()
    page = (folder / "diagnosis.md").read_text()
    assert "objective NextToken, order forward (assumed: the model does not say)" in page
    assert found["verdict"]["name"] == "untrained or undertrained"
    assert found["verdict"]["text"].startswith("Untrained or undertrained: ")  # nobody knows
    assert found["clever_hans"]["n"] == 30
    assert "learning" not in page


# ---------------------------------------------------------------- what it cannot do


def message(flags, monkeypatch, folder):
    """What the script says as it ends."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["diagnose.py", *flags])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / "diagnose.py"), run_name="__main__")
    assert not (folder / "outputs").exists()
    return stopped.value.code


def test_results_of_another_model(run, tmp_path, monkeypatch):
    """Catches: the budget, the learning order and the training rows of an earlier run in the same folder."""
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    results = json.loads((folder / "results.json").read_text())
    (tmp_path / "run" / "results.json").write_text(json.dumps(results | {"weights": "another"}))
    said = message(["run", "--output_dir", "out"], monkeypatch, tmp_path)
    assert said.endswith("results.json is about another model; remove it to diagnose the model without its training.")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--num_test", "0"], "--num_test 0 must be from 1 to 4096"),
        (["--num_test", "4097"], "--num_test 4097 must be from 1 to 4096"),
        (["--batch_size", "0"], "at least 1"),
        (["--degree", "0"], "degree=0 is out of range; give a whole number, degree >= 1"),
        (["--path_length", "9"], "give num_nodes >= 17"),
        (["--num_nodes", "30"], "a word-level tokenizer knows only the labels of its task"),
        (["--degree", "3"], "takes sequences of up to 25 tokens and these need 34"),
    ],
)
def test_bad_arguments_are_one_clear_line(flags, reason, run, monkeypatch, tmp_path):
    """Catches: a trace, or a crash after minutes, for a slip that can be told at once."""
    said = message([str(run[0]), *flags], monkeypatch, tmp_path)
    assert said.startswith("error: ")
    assert reason in said
    assert "\n" not in said


def test_too_few_positions(monkeypatch, tmp_path):
    """Catches: an index error from inside a stock model whose position table is too short."""
    task = PathStar(2, 4, 20)
    name = stock(tmp_path / "short", byte_bpe(task, 300), positions=32)
    said = message([name, "--path_length", "4", "--num_nodes", "20", "--num_test", "5"], monkeypatch, tmp_path)
    assert said.startswith("error: GPT2LMHeadModel takes sequences of up to 32 tokens and these need ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no-such-model", "'no-such-model' is no folder with a model, and no Hub id within reach: "),
        ("empty", "folder empty holds no model: config.json is missing; give the folder of a run."),
    ],
)
def test_a_model_that_is_not_there(name, reason, monkeypatch, tmp_path):
    """Catches: a trace, or a page of text without the name, where a name is wrong or there is no network."""
    (tmp_path / "empty").mkdir()
    said = message([name], monkeypatch, tmp_path)
    assert said.startswith(f"error: {reason}")
    assert "\n" not in said


def test_nothing_is_overwritten_unasked(run, diagnose, tmp_path, monkeypatch):
    """Catches: a diagnosis of other knobs written over the last one; a report among a model's own files."""
    monkeypatch.chdir(tmp_path)
    folder, _ = run
    diagnose([str(folder), "--num_test", "10"])
    diagnose([str(folder), "--num_test", "10", "--num_nodes", "11"])
    name = "--".join(folder.resolve().parts[1:])
    assert sorted(path.name for path in Path("outputs/diagnosis").iterdir()) == [
        f"{name}-deg2-path4-nodes11",
        f"{name}-deg2-path4-nodes12",
    ]
    with pytest.raises(ValueError, match="is not empty; add --overwrite_output_dir to replace that diagnosis, or give"):
        diagnose([str(folder), "--num_test", "10"])
    diagnose([str(folder), "--num_test", "10", "--overwrite_output_dir"])
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ValueError, match="is not empty; give --output_dir with another folder"):
        diagnose([str(folder), "--num_test", "10", "--output_dir", str(folder), "--overwrite_output_dir"])
    assert sorted(path.name for path in folder.iterdir()) == before


def test_folders_of_models_that_are_called_alike(diagnose, tmp_path, monkeypatch):
    """Catches: the diagnosis of a checkpoint, or of another owner's model, written over that of another one."""
    dashed = diagnose.__globals__["dashed"]
    monkeypatch.chdir(tmp_path)
    for folder in ("outputs/a/checkpoint-80", "outputs/b/checkpoint-80", "b/checkpoint-80", "outputs/run"):
        Path(folder).mkdir(parents=True)
    assert dashed("outputs/a/checkpoint-80") == dashed(str(tmp_path / "outputs/a/checkpoint-80/")) == "a--checkpoint-80"
    assert dashed("outputs/b/checkpoint-80") == "b--checkpoint-80"
    assert dashed("outputs/run") == dashed("outputs/a/../run") == "run"
    assert dashed("./b/") == "b"
    assert (dashed("gpt2"), dashed("somebody/gpt2")) == ("gpt2", "somebody--gpt2")
    assert dashed("/models/llama") == "models--llama"  # as a server calls it
    monkeypatch.chdir("b")
    assert dashed("checkpoint-80") == "checkpoint-80"
    assert dashed(".") == "--".join((tmp_path / "b").resolve().parts[1:])


def test_tokenizers_that_do_not_fit(diagnose, tmp_path):
    """Catches: an index error deep in the model; an empty tokenizer that is blamed on the rows."""
    name = stock(tmp_path / "larger", word_level_tokenizer(PathStar(2, 4, 20)))
    word_level_tokenizer(PathStar(2, 4, 30)).save_pretrained(name)
    with pytest.raises(ValueError, match="the tokenizer has 35 tokens and the model's embedding 25"):
        diagnose([name, "--path_length", "4", "--num_nodes", "20", "--output_dir", str(tmp_path / "out")])
    for path in (tmp_path / "larger").glob("*token*"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no tokenizer; save its own there"):
        diagnose([name, "--path_length", "4", "--num_nodes", "20", "--output_dir", str(tmp_path / "out")])


def test_torn_results(run, diagnose, tmp_path):
    """Catches: a JSON error that does not say which file."""
    copied = shutil.copytree(run[0], tmp_path / "copy")
    (copied / "results.json").write_text('{"steps": ')
    with pytest.raises(ValueError, match=r"results\.json is damaged .*; remove it to diagnose the model"):
        diagnose([str(copied), "--output_dir", str(tmp_path / "out")])


def test_training_rows_count_where_all_were_seen(run, diagnose, tmp_path):
    """Catches: a memorisation gap on rows of which most were never trained on."""
    copied = shutil.copytree(run[0], tmp_path / "copy")
    results = json.loads((copied / "results.json").read_text())
    (copied / "results.json").write_text(json.dumps(results | {"examples": 23}))
    found = diagnose([str(copied), "--num_test", "10", "--output_dir", str(tmp_path / "out")])
    assert "train_accuracy" not in found["decision_token"]


@pytest.mark.hub
def test_on_a_run_of_ours_on_the_hub(run, diagnose, tmp_path, online):
    """Catches: a run whose budget, data and training graphs are forgotten once it is on the Hub: memorised is then
    Clever Hans."""
    load(EXAMPLES / "push.py").main([str(run[0]), "--repo_id", "tester/it"])
    found = diagnose(["tester/it", "--num_test", "40", "--output_dir", str(tmp_path / "hub")])
    here = diagnose([str(run[0]), "--num_test", "40", "--output_dir", str(tmp_path / "here")])
    assert found == here
    assert "train_accuracy" in found["decision_token"]
    assert "after 3 steps (24 examples" in found["verdict"]["text"]


def test_a_damaged_description(monkeypatch, tmp_path):
    """Catches: a damaged run diagnosed as if it were a stock model."""
    name = stock(tmp_path / "damaged", word_level_tokenizer(PathStar(2, 4, 20)))
    (tmp_path / "damaged" / RUN_FILE).write_text('{"objective": ')
    assert "nt_failures.json is not JSON" in message([name], monkeypatch, tmp_path)


@dataclasses.dataclass(frozen=True)
class Queue(PathStar):
    """A task with a size that has no default."""

    cars: int = dataclasses.field(kw_only=True)


def test_a_size_without_default_is_the_models(run, diagnose):
    """Catches: a trained model's own size asked for on the command line."""
    choose, parse = (diagnose.__globals__[name] for name in ("choose_task", "parse"))
    assert choose(*parse(["model"]), Queue(cars=3)) == Queue(cars=3)
    assert choose(*parse(["model", "--cars", "4"]), Queue(cars=3)) == Queue(cars=4)


@pytest.mark.parametrize("changes", [{"train_file": "mine.jsonl"}, {"overlap": "allow"}])
def test_a_checkpoint_is_of_its_run(changes, run, diagnose, tmp_path, monkeypatch):
    """Catches: rows that a run was trained on called held-out, as its checkpoint has no results to tell of them."""
    copied = shutil.copytree(run[0], tmp_path / "run" / "checkpoint-3")
    (copied / "results.json").unlink()
    arguments = json.loads((copied / "arguments.json").read_text())
    (copied / "arguments.json").unlink()
    arguments["data"] |= changes
    (tmp_path / "run" / "arguments.json").write_text(json.dumps(arguments))
    asked = []
    monkeypatch.setattr(PathStar, "block", lambda self, *args, **more: asked.append((args, more)) or 1 / 0)
    if "overlap" in changes:
        with pytest.raises(ZeroDivisionError):
            diagnose([str(copied), "--num_test", "10", "--output_dir", str(tmp_path / "out")])
        assert asked == [((5, "test", 0, "allow"), {"rows": 10})]
    else:
        with pytest.raises(ValueError, match=r"read its rows from a file \(train_file\)"):
            diagnose([str(copied), "--num_test", "10", "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--numtest", "3"], "error: '--numtest' is no flag of this program, nor a parameter of PathStar"),
        (["--degree", "two"], "'two' is neither a whole number nor a range"),
        (
            ["--task", "addition"],
            "was trained on PathStar(degree=2, path_length=4, num_nodes=12), not Addition(digits=3",
        ),
        (["--num_tset", "3"], "Did you mean '--num_test'?"),
        (["--model", "gpt2"], "nor a parameter of PathStar: --degree, --path_length, --num_nodes."),
        (["--task", f"{__name__}.Queue"], "error: the following arguments are required: --cars."),
        (["--task", f"{__name__}.Queue", "--cars", "many"], "argument --cars: invalid int value: 'many'."),
    ],
)
def test_unknown_flags(flags, reason, run, monkeypatch, tmp_path):
    """Catches: a misspelt flag that is ignored; a value of another type, or a size that is missing, that ends in a
    traceback."""
    said = message([str(run[0]), *flags], monkeypatch, tmp_path)
    assert reason in said
    assert "mean '--model'" not in said  # which is none
