"""What a run is about to do, and the results.json that says what was measured, how and with what."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

from nt_failures.diagnosis import Budget, Evidence, diagnose, report, verdict
from nt_failures.diagnosis.report import paragraph, position_table, throughput_line
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.experiments.arguments import Arguments
from nt_failures.hub.json_files import write_json
from nt_failures.hub.run_files import RECIPE_FILE, RESULTS_FILE, hardware, recipe_text, versions
from nt_failures.models.families import from_folder
from nt_failures.models.load import parameter_count
from nt_failures.tasks.base import Task
from nt_failures.training.budget import budget_of, learning_curve, seen_all
from nt_failures.training.trainer import ObjectiveTrainer

DIAGNOSIS_ROWS = 2000
"""Instances of each split that a run's diagnosis looks at."""


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
    trainer: ObjectiveTrainer, args: Arguments, metrics: dict[str, float], n: int, train_seconds: float
) -> dict[str, Any]:
    """Everything a later table needs, JSON-ready: metrics, diagnosis, budget, arguments, versions, learning curve.

    Args:
        metrics: of the test split, with the prefix `test_` and the full decode.
        n: rows of the test split.
    """
    if trainer.eval_rows != n:
        raise ValueError(f"the test was to be of {n} rows and was of {trainer.eval_rows}; nothing was written.")
    plain = {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
    budget = budget_of(trainer)
    curve = learning_curve(trainer.state)
    return {
        "metrics": plain,
        "n": n,
        "chance": args.task.chance,
        "decision_position": args.task.decision_position(args.objective.order),
        "trained_positions": trainer.objective.trained_positions,
        "diagnosis": diagnosis_of(trainer, args, plain, n, curve, budget),
        "steps": budget.steps,
        "examples": budget.examples,
        "flops": budget.flops,
        "train_seconds": round(train_seconds, 1),
        "resumed_at": trainer.resumed_at,
        "throughput": None if trainer.throughput is None else trainer.throughput.to_dict(),
        "parameters": parameter_count(trainer.model),
        "learning_curve": curve,
        "arguments": args.to_dict(),
        "local": [name for name in ("model", "tokenizer") if from_folder(dataclasses.asdict(args.model)[name])],
        "versions": versions(),
        "hardware": hardware(),
    }


def diagnosis_of(
    trainer: ObjectiveTrainer,
    args: Arguments,
    metrics: dict[str, float],
    n: int,
    curve: list[dict[str, float]],
    budget: Budget,
) -> dict[str, Any]:
    """The diagnosis on the first rows of test, and of train if all were seen; the verdict rests on the whole test split."""
    task, data, objective = args.task, args.data, trainer.objective
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    predictor = ModelPredictor(
        model, trainer.processing_class, objective, task, args.training.per_device_eval_batch_size
    )
    stream = (data.dataset_seed, data.overlap)
    held_out = first_rows(task, "test", min(data.num_test, DIAGNOSIS_ROWS), *stream)
    train = None
    if seen_all(budget.examples, data.num_train, args.training.dataloader_drop_last):
        train = first_rows(task, "train", min(data.num_train, DIAGNOSIS_ROWS), *stream)
    found = diagnose(predictor, task, held_out, train, curve, budget)
    evidence = Evidence(
        n=n,
        exact=metrics["free/exact"],
        chance=task.chance,
        decision=task.decision_position(objective.order),
        forced=report.positions(metrics, "forced"),
        free=report.positions(metrics, "free"),
        autoregressive=predictor.autoregressive,
        order=predictor.order,
        train_decision=found["decision_token"].get("train_accuracy"),
        follow_rate=None if found["clever_hans"] is None else found["clever_hans"]["follow_rate"],
        trained=predictor.trained_positions,
        by_place=found["by_place"],
    )
    return found | {"verdict": verdict(evidence, budget).to_dict()}


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
    table = position_table(results["metrics"], results["n"], results["decision_position"], results["chance"])
    before = results.get("resumed_at", 0)
    steps = (
        f"{results['steps']:,} steps" if not before else f"{results['steps'] - before:,} of {results['steps']:,} steps"
    )
    speed = f"{steps} in {results['train_seconds']:,.0f} s"
    if results.get("throughput"):
        speed = f"{throughput_line(results['throughput'])}\n{speed}"
    verdict = paragraph(results["diagnosis"]["verdict"]["text"])
    return f"\n{table}\n\n{verdict}\n\n{speed}\nmodel, tokenizer and results.json are in {folder}"
