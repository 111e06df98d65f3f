"""What a run writes: results.json says what was measured, and is there whole or not at all."""

import dataclasses
import json
from types import SimpleNamespace

import datasets
import pytest
from run_arguments import arguments

from nt_failures.data.columns import to_table
from nt_failures.data.tokenizer import tokenize
from nt_failures.diagnosis import Budget
from nt_failures.experiments import results as runs
from nt_failures.hub.recipe import recipe_text
from nt_failures.objectives import NextToken
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.budget import budget_of
from nt_failures.training.trainer import ObjectiveTrainer


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """Catches: half a results.json after a full disk or a value that JSON does not know."""
    path = tmp_path / "results.json"
    runs.write_json(path, {"share": 0.5})
    with pytest.raises(TypeError, match="doesn't apply to a 'object' object"):
        runs.write_json(path, {"share": object()})

    def fail(self, text, encoding):
        with self.open("w", encoding=encoding) as file:
            file.write(text[:5])
        raise OSError("no space left on device")

    monkeypatch.setattr(type(path), "write_text", fail)
    with pytest.raises(OSError, match="no space left"):
        runs.write_json(path, {"share": 0.75})
    assert json.loads(path.read_text(encoding="utf-8")) == {"share": 0.5}


def test_longest_sequence():
    """Catches: a model too short, or answers cut, because one row of one split was looked at; no room for what a stream
    may yet bring; a checkpoint refused that has positions for every row."""
    one = datasets.Dataset.from_dict({"prefix_ids": [[1, 2, 3]], "target_ids": [[1, 2]]})
    other = datasets.Dataset.from_dict({"prefix_ids": [[1] * 4, [1, 2]], "target_ids": [[1], [1, 2, 3]]})
    longer = datasets.Dataset.from_dict({"prefix_ids": [[1] * 9], "target_ids": [[1]]})
    for train, new, checkpoint in (
        (one, (5, 2), (5, 2)),
        (other, (9, 3), (7, 3)),  # 4 + 3, and for a new model room for the 2 above the shortest
        (longer, (17, 2), (11, 2)),
        (one.to_iterable_dataset(), (5, 2), (5, 2)),
        (longer.to_iterable_dataset(), (17, 2), (11, 2)),
    ):
        assert runs.longest_sequence({"test": one, "train": train}, new=True) == new
        assert runs.longest_sequence({"test": one, "train": train}, new=False) == checkpoint


def test_a_teacher_of_this_machine_is_no_part_of_what_repeats_a_run(tmp_path):
    """Catches: a card that promises the same run again, from a folder that nobody else has."""
    options = json.dumps({"teacher": str(tmp_path), "weight": 1.0})
    args = arguments(tmp_path / "run", "--objective", "future_summary", "--objective_options", options)
    assert runs._from_folders(args) == ["objective_options"]
    assert runs._from_folders(arguments(tmp_path / "run", "--objective_options", '{"positions": [2]}')) == []
    said = "# objective_options: a folder on the machine of the run, not published and no Hub id; name your own copy.\n"
    recipe = recipe_text(args.to_dict(), ["objective_options"])
    assert f"{said}objective_options:\n  teacher: {tmp_path.name}\n" in recipe


SPLITS = ("train", "test")


@pytest.fixture
def trained(tmp_path, tiny_model, task, tokenizer):
    """A trainer after two steps, its arguments and its test metrics."""
    flags = ["--max_steps", "2", "--eval_strategy", "steps", "--eval_steps", "1", "--disable_tqdm", "true"]
    flags += ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "3", "--num_test", "40"]
    args = arguments(tmp_path / "run", *flags, "--num_train", "50", "--full_decode", "--dataset_seed", "5")
    rows = {split: datasets.Dataset(to_table(task, task.block(5, split, 0, rows=40))) for split in SPLITS}
    sets = {split: tokenize(table, tokenizer) for split, table in rows.items()}
    trainer = ObjectiveTrainer(
        tiny_model("gpt2", spread=0.5),
        args.training,
        objective=NextToken(pad_token_id=tokenizer.pad_token_id),
        task=task,
        train_dataset=sets["train"],
        eval_dataset=sets["test"],
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer, args, rows, trainer.evaluate(sets["test"], metric_key_prefix="test")


def test_splits_that_share_rows_are_not_called_held_out(trained):
    """Catches: "solved" of held-out graphs, said of a model that may have been trained on them."""
    trainer, args, rows, metrics = trained
    for overlap, shared in (("forbid", False), ("allow", True)):
        own = dataclasses.replace(args, data=dataclasses.replace(args.data, overlap=overlap))
        text = runs.results(trainer, own, rows, metrics, train_seconds=1).verdict["text"]
        assert (text.endswith("Test rows may be rows of train, as overlap=allow keeps none apart.")) == shared
        assert not (shared and "held-out" in text)


def test_results_say_what_was_measured(trained):
    """Catches: figures without their number of instances, budget or arguments; examples counted per micro-batch; a
    verdict on other figures than those of the table; values that JSON cannot hold."""
    trainer, args, rows, metrics = trained
    results = runs.results(trainer, args, rows, metrics, train_seconds=1.26)
    problems = {(*sorted(map(tuple, row["edges"])), row["source"], row["goal"]) for row in rows["test"]}
    assert (results.n, results.rows) == (len(problems), 40)
    assert (results.chance, results.decision_position) == (0.5, 2)
    assert (results.steps, results.examples, results.train_seconds) == (2, 12, 1.3)
    assert results.flops > 0
    assert results.parameters == sum(p.numel() for p in trainer.model.parameters())
    assert results.metrics["free/exact"] == metrics["test_free/exact"]
    assert results.metrics["forced/position_2"] == results.metrics["decision"] == metrics["test_decision"]
    assert [entry["step"] for entry in results.learning_curve] == [1, 2]
    last = [entry for entry in trainer.state.log_history if "eval_free/exact" in entry][-1]
    assert results.learning_curve[1]["free/exact"] == last["eval_free/exact"]
    assert results.diagnosis["verdict"]["name"] == "undertrained"
    measured = results.diagnosis["forced_vs_free"]
    assert (measured["n"], measured["exact"]) == (results.n, results.metrics["free/exact"])
    assert {f"free/position_{k}": share for k, share in measured["free"].items()}.items() <= results.metrics.items()
    assert results.diagnosis["decision_token"]["accuracy"] == results.metrics["decision"]
    assert set(results.example) == {"edges", "source", "goal", "path", "prediction", "text"}
    assert "2 steps (12 examples" in results.diagnosis["verdict"]["text"]
    assert results.arguments == args.to_dict()
    assert {"python", "torch", "transformers", "nt_failures"} <= set(results.versions)
    assert (results.versions["task"], results.versions["objective"]) == ("2.0.0", "1")
    assert results.hardware["threads"] == 1
    runs.write(results, args)
    folder = trainer.args.output_dir
    with open(f"{folder}/results.json", encoding="utf-8") as file:
        assert json.load(file) == json.loads(json.dumps(results.to_json()))


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({}, 7),
        ({"dataloader_drop_last": True}, 7),
        ({"gradient_accumulation_steps": 2}, 5),
        ({"gradient_accumulation_steps": 2, "dataloader_drop_last": True}, 3),
        ({"per_device_train_batch_size": 32}, 3),
    ],
)
def test_examples_are_the_rows_that_were_trained_on(flags, steps, tmp_path, tiny_model, tokenized):
    """Catches: a short last batch of each epoch, or a dropped one, counted as full."""
    rows = tokenized.select(range(10))
    args = ObjectiveTrainingArguments(
        str(tmp_path),
        max_steps=steps,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        **{"per_device_train_batch_size": 4, **flags},
    )
    seen = []

    class Counting(ObjectiveTrainer):
        def training_step(self, model, inputs, *more, **options):
            seen.append(len(inputs["input_ids"]))
            return super().training_step(model, inputs, *more, **options)

    trainer = Counting(tiny_model("gpt2"), args, objective=NextToken(pad_token_id=14), train_dataset=rows)
    trainer.train()
    assert budget_of(trainer).examples == sum(seen)


@pytest.mark.parametrize(("processes", "drop_last", "examples"), [(2, False, 32), (3, False, 60), (3, True, 30)])
def test_examples_of_several_processes(processes, drop_last, examples):
    """Catches: rows that fill up the last batch left out; by hand: 10 rows, processes of 2, twice a step, 5 steps."""
    args = SimpleNamespace(
        train_batch_size=2,
        world_size=processes,
        gradient_accumulation_steps=2,
        dataloader_drop_last=drop_last,
        load_best_model_at_end=False,
    )
    state = SimpleNamespace(global_step=5, total_flos=0.0, best_model_checkpoint=None)
    trainer = SimpleNamespace(args=args, state=state, train_dataset=range(10), earlier=Budget(0, 0))
    assert budget_of(trainer).examples == examples
