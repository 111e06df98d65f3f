"""From a batch to predictions, and from gathered predictions to the metrics of `ObjectiveTrainer.evaluate`."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import EvalPrediction, PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.evaluation.metrics import Accuracies, Scored
from nt_failures.objectives.auxiliary_modules import forward_as
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task


@contextlib.contextmanager
def each_pass_once(model: PreTrainedModel) -> Iterator[None]:
    """While it lasts, a forward pass with the very inputs of an earlier one returns that one's outputs.

    So a loss and its forced or parallel predictions share a pass. For one batch: all outputs are kept.
    """
    forward = model.forward
    passes: list[tuple[dict[str, Any], Any]] = []

    @functools.wraps(forward)  # `generate` reads from the signature what the model takes
    def remembered(*args: Any, **inputs: Any) -> Any:
        if args or inputs.get("use_cache") is not False:  # a cache grows: the same inputs would not be the same pass
            return forward(*args, **inputs)
        for before, outputs in passes:
            if before.keys() == inputs.keys() and all(_same(before[name], inputs[name]) for name in inputs):
                return outputs
        passes.append((inputs, forward(**inputs)))
        return passes[-1][1]

    with forward_as(model, remembered):
        yield


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one is other or (one.dtype == other.dtype and torch.equal(one, other))
    return type(one) is type(other) and not isinstance(one, torch.Tensor) and one == other


def predict(
    model: PreTrainedModel, objective: Objective, batch: Mapping[str, torch.Tensor], full_decode: bool = False
) -> dict[str, torch.Tensor]:
    """Predicted ids (B, T) in the task's own order: `forced`, `free` and `parallel` as they apply.

    Args:
        batch: `prefix_ids`, `prefix_mask`, `target_ids` as `Objective.layout` makes them (the objective's order).
        full_decode: decode autoregressive objectives token by token; otherwise their `free` is left out.
    """
    prefix, mask, target = batch["prefix_ids"], batch["prefix_mask"], batch["target_ids"]
    lengths = target.ne(IGNORE).sum(dim=1)
    predictions = {"forced": objective.decode(model, prefix, lengths, mask, shown=target)}
    first = objective.decodings[0]
    if first != "autoregressive" or full_decode:
        predictions["free"] = objective.decode(model, prefix, lengths, mask)
    if first != "parallel" and "parallel" in objective.decodings:
        predictions["parallel"] = objective.decode(model, prefix, lengths, mask, decoding="parallel")
    return predictions


def objective_metrics(output: EvalPrediction, objective: Objective, task: Task | None) -> dict[str, float]:
    """The metrics of `ObjectiveTrainer.evaluate` from gathered predictions."""
    target, positions = output.label_ids["target_ids"], output.label_ids["target_positions"]
    scored = {name: Scored.of_ids(ids, target, positions) for name, ids in output.predictions.items()}
    # Up to the first error, forced and free decoding see the same input.
    scored.setdefault("free", Scored(np.empty((len(target), 0)), scored["forced"].exact))
    accuracies = Accuracies(len(target), **{name: found.shares for name, found in scored.items()})
    metrics = accuracies.named()
    if task is not None:
        # Forced where it decodes token by token: a model trained on the decision alone writes junk before it when free.
        judged = getattr(accuracies, objective.judged_decoding)
        metrics["decision"] = judged.positions[task.decision_position(objective.order)]
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
