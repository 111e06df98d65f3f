"""What a run is about to do, and the results.json that says what was measured, how and with what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

from nt_failures.data.columns import to_columns
from nt_failures.diagnosis import Budget
from nt_failures.diagnosis.diagnose import diagnose_observed
from nt_failures.diagnosis.report import paragraph, position_table, throughput_line
from nt_failures.evaluation.metrics import Accuracies, Scored
from nt_failures.evaluation.observations import SHOWN, Observations
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.experiments.arguments import Arguments
from nt_failures.hub.environment import hardware, versions
from nt_failures.hub.json_files import write_json
from nt_failures.hub.recipe import recipe_text
from nt_failures.hub.run_files import RECIPE_FILE, RESULTS_FILE
from nt_failures.models.families import from_folder
from nt_failures.models.load import parameter_count
from nt_failures.tasks.base import Task
from nt_failures.training.budget import budget_of, learning_curve, seen_all
from nt_failures.training.trainer import ObjectiveTrainer

TRAIN_ROWS = 2000
"""Training instances on which the decision is measured; of the test split all rows are."""


def longest_sequence(rows: datasets.Dataset) -> int:
    """Tokens of the longest row, prefix and target together, with room for rows of other splits."""
    lengths = [len(p) + len(t) for p, t in zip(rows["prefix_ids"], rows["target_ids"], strict=True)]
    # Rows of equal length stay so in every split; where a tokenizer makes them vary, other rows may be longer.
    return max(lengths) if min(lengths) == max(lengths) else max(lengths) + max(lengths) - min(lengths)


def headline(args: Arguments, model: PreTrainedModel) -> str:
    """What is about to run, in two lines."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    size = f"{parameter_count(model):,} parameters" + (
        "" if args.model.lora is None else f", {trained:,} of them trained"
    )
    return (
        f"{args.task}: {args.objective.objective}, {args.objective.order} order, seed {args.training.seed}\n"
        f"{args.model.model}: {type(model).__name__}, {size} -> {args.training.output_dir}"
    )


def results(
    trainer: ObjectiveTrainer,
    args: Arguments,
    rows: Mapping[str, datasets.Dataset | datasets.IterableDataset],
    metrics: Mapping[str, float],
    train_seconds: float,
) -> dict[str, Any]:
    """Everything a later table needs, JSON-ready: metrics, diagnosis, budget, arguments, versions, learning curve.

    Args:
        rows: the splits, as text and columns.
        metrics: what `trainer.evaluate` has just given for all rows of `test`, with the prefix `test_` and `full_decode`.
    """
    observed = observations(trainer, args, rows["test"])
    budget, curve = budget_of(trainer), learning_curve(trainer.state)
    return {
        "metrics": {name.removeprefix("test_"): v for name, v in metrics.items() if name.startswith("test_")},
        "n": observed.accuracies.n,
        "chance": args.task.chance,
        "decision_position": observed.decision,
        "trained_positions": trainer.objective.trained_positions,
        "diagnosis": diagnose_observed(observed, _trained_on(observed, args, rows, budget), curve, budget),
        "example": observed.example(),
        "steps": budget.steps,
        "examples": budget.examples,
        "flops": budget.flops,
        "train_seconds": round(train_seconds, 1),
        "resumed_at": trainer.resumed_at,
        "throughput": None if trainer.throughput is None else trainer.throughput.to_dict(),
        "parameters": parameter_count(trainer.model),
        "learning_curve": curve,
        "arguments": args.to_dict(),
        "local": [name for name in ("model", "tokenizer") if from_folder(getattr(args.model, name))],
        "versions": versions(),
        "hardware": hardware(),
    }


def observations(trainer: ObjectiveTrainer, args: Arguments, test: datasets.Dataset) -> Observations:
    """What the evaluation has just predicted for the test rows; nothing of it is asked again."""
    output, task = trainer.evaluation, args.task
    if output.num_samples != len(test):
        raise ValueError(
            f"the test was to be of {len(test)} rows and was of {output.num_samples}; nothing was written."
        )
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    batch_size = args.training.per_device_eval_batch_size
    predictor = ModelPredictor(model, trainer.processing_class, trainer.objective, task, batch_size)
    target, positions = output.label_ids["target_ids"], output.label_ids["target_positions"]
    forced, free = (Scored.of_ids(output.predictions[name], target, positions) for name in ("forced", "free"))
    first = predictor.symbols_of(output.predictions["free"][:SHOWN])
    return Observations(predictor, task, to_columns(test), forced, free, first)


def _trained_on(
    observed: Observations, args: Arguments, rows: Mapping[str, datasets.Dataset], budget: Budget
) -> Observations | None:
    """The model on the first training rows; None unless it has seen every one of them."""
    if not seen_all(budget.examples, args.data.num_train, args.training.dataloader_drop_last):
        return None
    train = to_columns(rows["train"].select(range(min(args.data.num_train, TRAIN_ROWS))))
    return Observations(observed.predictor, args.task, train)


def first_rows(task: Task, split: str, count: int, seed: int, overlap: str) -> dict[str, np.ndarray]:
    """The first `count` rows of a split as columns, at most one block."""
    return {name: column[:count] for name, column in task.block(seed, split, 0, overlap).items()}


def write(results_: dict[str, Any], args: Arguments) -> None:
    """Write results.json and recipe.yaml, which repeats the run unless it began from a local folder, into the output folder."""
    folder = Path(args.training.output_dir)
    write_json(folder / RESULTS_FILE, results_)
    (folder / RECIPE_FILE).write_text(recipe_text(args.to_dict(), results_["local"]), encoding="utf-8")


def summary(results: Mapping[str, Any], folder: str) -> str:
    """The end of a run: the table by position, the verdict, and where everything was written."""
    table = position_table(
        Accuracies.from_names(results["metrics"], results["n"]), results["decision_position"], results["chance"]
    )
    before = results.get("resumed_at", 0)
    steps = (
        f"{results['steps']:,} steps" if not before else f"{results['steps'] - before:,} of {results['steps']:,} steps"
    )
    speed = f"{steps} in {results['train_seconds']:,.0f} s"
    if results.get("throughput"):
        speed = f"{throughput_line(results['throughput'])}\n{speed}"
    verdict = paragraph(results["diagnosis"]["verdict"]["text"])
    return f"\n{table}\n\n{verdict}\n\n{speed}\nmodel, tokenizer and results.json are in {folder}"
