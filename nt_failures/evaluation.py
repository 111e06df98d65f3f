"""From a batch to predictions, and from gathered predictions to the metrics of `ObjectiveTrainer.evaluate`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from transformers import EvalPrediction, PreTrainedModel

from nt_failures import scoring
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task


def predict(
    model: PreTrainedModel, objective: Objective, batch: Mapping[str, torch.Tensor], full_decode: bool = False
) -> dict[str, torch.Tensor]:
    """Predicted ids (B, T) in the task's own order, by way: `forced`, `free` and `parallel` as they apply.

    Args:
        batch: `prefix_ids`, `prefix_mask`, `target_ids` as `Objective.layout` makes them (the objective's order).
        full_decode: decode autoregressive objectives token by token; otherwise their `free` is left out.
    """
    prefix, mask, target = batch["prefix_ids"], batch["prefix_mask"], batch["target_ids"]
    lengths = target.ne(scoring.IGNORE).sum(dim=1)
    predictions = {"forced": objective.decode(model, prefix, lengths, mask, shown=target)}
    first = objective.decodings[0]
    if first != "autoregressive" or full_decode:
        predictions["free"] = objective.decode(model, prefix, lengths, mask)
    if first != "parallel" and "parallel" in objective.decodings:
        predictions["parallel"] = objective.decode(model, prefix, lengths, mask, way="parallel")
    return predictions


def objective_metrics(output: EvalPrediction, objective: Objective, task: Task | None) -> dict[str, float]:
    """The metrics of `ObjectiveTrainer.evaluate` from gathered predictions."""
    target, positions = output.label_ids["target_ids"], output.label_ids["target_positions"]
    metrics = scoring.path_metrics(output.predictions, target, positions)
    metrics.setdefault("free/exact", metrics["forced/exact"])
    if task is not None:
        # Forced where it decodes token by token: a model trained on the decision alone writes junk before it when free.
        way = "forced" if objective.decodings[0] == "autoregressive" else "free"
        metrics["decision"] = metrics[f"{way}/position_{task.decision_position(objective.order)}"]
        metrics["chance"] = task.chance
    return metrics


def collate_answers(examples: Sequence[Mapping[str, Any]], objective: Objective) -> dict[str, torch.Tensor]:
    """A batch of the objective with the answers beside it, in the objective's order."""
    return {**objective.layout(examples), **objective.collate(examples)}


def rows_of_its_own(accelerator: Accelerator, rows: int) -> int:
    """How many of a process's rows count, the first ones: the last batch is filled up so that every process has one."""
    state = accelerator.gradient_state
    if not state.end_of_dataloader or state.remainder <= 0:
        return rows
    return min(max(state.remainder - accelerator.process_index * rows, 0), rows)
