"""From a batch to predictions, and from gathered predictions to the metrics of `ObjectiveTrainer.evaluate`."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from nt_failures.data.batches import IGNORE
from nt_failures.evaluation.metrics import Accuracies, Scored, count_problems, mean_guess
from nt_failures.evaluation.reading import as_answers, forced_symbols, read_symbols, texts_of
from nt_failures.objectives.auxiliary_modules import forward_as
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task


@contextlib.contextmanager
def first_pass_once(model: PreTrainedModel) -> Iterator[None]:
    """While it lasts, a forward pass with the very inputs of the first one returns the first one's outputs.

    So a loss and its forced or parallel predictions share a pass. For one batch, whose first outputs are kept.
    """
    forward = model.forward
    first: list[tuple[dict[str, Any], Any]] = []

    @functools.wraps(forward)  # `generate` reads from the signature what the model takes
    def remembered(*args: Any, **inputs: Any) -> Any:
        if args or inputs.get("use_cache") is not False:  # a cache grows: the same inputs would not be the same pass
            return forward(*args, **inputs)
        for before, outputs in first:
            if before.keys() == inputs.keys() and all(_same(before[name], inputs[name]) for name in inputs):
                return outputs
        outputs = forward(**inputs)
        if not first:
            first.append((inputs, outputs))
        return outputs

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


def objective_metrics(
    output: EvalPrediction,
    objective: Objective,
    task: Task | None,
    columns: Mapping[str, np.ndarray] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> dict[str, float]:
    """The metrics of `ObjectiveTrainer.evaluate` from gathered predictions.

    Args:
        columns: the rows' own, of which the first were predicted; None where the data set has lost them.
        tokenizer: reads the answers of a task that judges them itself.

    Raises:
        ValueError: the task must see the rows to say what is right, and there are no `columns`.
    """
    target, problems = output.label_ids["target_ids"], None
    if task is not None:
        columns = _rows(task, columns, len(target))
        problems = None if columns is None else task.instance_hash(columns)
    scored = score(output, task, columns, tokenizer, objective)
    # Up to the first error, forced and free decoding see the same input.
    scored.setdefault("free", Scored(np.empty((len(target), 0)), scored["forced"].exact, np.empty((len(target), 0))))
    found = {name: shares.shares(problems) for name, shares in scored.items()}
    every = np.ones(len(target), dtype=bool)
    metrics = Accuracies(count_problems(problems, every), **found).named()
    if problems is not None:
        metrics["problems"] = count_problems(problems, every)
    if task is not None:
        # Forced where it decodes token by token: a model trained on the decision alone writes junk before it when free.
        judged = scored[objective.judged_decoding]
        if columns is None:  # the same decision in every row
            decisions = np.full(len(target), task.decision_position(objective.order))
            guess = np.full(len(target), task.chance)
        else:
            decisions, guess = task.decisions(columns, objective.order), task.guess(columns, objective.order)
        if (some := decisions > 0).any():
            metrics["decision"] = float(judged.right[some, decisions[some] - 1].mean())
            metrics["chance"] = mean_guess(guess[some])
    return metrics


def score(
    output: EvalPrediction,
    task: Task | None,
    columns: Mapping[str, np.ndarray] | None,
    tokenizer: Any,
    objective: Objective,
) -> dict[str, Scored]:
    """Which gathered predictions are right, by way of decoding; a task with several right answers judges them."""
    target, positions = output.label_ids["target_ids"], output.label_ids["target_positions"]
    if task is None or task.one_answer:
        placed = {name: _in_place(objective, ids, target, name) for name, ids in output.predictions.items()}
        return {name: Scored.of_ids(ids, target, positions) for name, ids in placed.items()}
    if tokenizer is None:
        raise ValueError(f"{type(task).__name__} judges text; give the Trainer processing_class=tokenizer.")
    order = objective.order
    symbols = forced_symbols(task, tokenizer, output.predictions["forced"], positions)
    found = {"forced": Scored.of_forced(task, columns, symbols, order)}
    for name in output.predictions.keys() - {"forced"}:
        answers = as_answers(read_symbols(task, texts_of(tokenizer, output.predictions[name]), order))
        found[name] = Scored.of_judge(task.judge(columns, answers), task.lengths(columns))
    return found


def _in_place(objective: Objective, ids: np.ndarray, target: np.ndarray, name: str) -> np.ndarray:
    """Predicted ids (n, T) with each token at the position for which it was generated (`reading.in_place`)."""
    if name == "forced" or objective.order == "forward":
        return ids
    generated = objective.reorder(torch.from_numpy(np.ascontiguousarray(ids)))
    return objective.reorder(generated, torch.from_numpy(target)).numpy()


def _rows(task: Task, columns: Mapping[str, np.ndarray] | None, count: int) -> dict[str, np.ndarray] | None:
    """The first rows; ValueError where the task cannot do without them."""
    if columns is not None:
        return {name: column[:count] for name, column in columns.items()}
    moving = [name for name in ("decisions", "guess") if getattr(type(task), name) is not getattr(Task, name)]
    own = ["judge"] * (not task.one_answer) + moving * (not task.alike)
    if own:
        raise ValueError(
            f"{type(task).__name__} has its own {', '.join(own)}, which needs the columns of each row; evaluate rows "
            "of nt_failures.tokenize(dataset, tokenizer), which keeps them, with all columns of the task."
        )
    return None


def collate_answers(examples: Sequence[Mapping[str, Any]], objective: Objective) -> dict[str, torch.Tensor]:
    """A batch of the objective with the answers beside it, in the objective's order."""
    return {**objective.layout(examples), **objective.collate(examples)}


def rows_of_its_own(accelerator: Accelerator, rows: int) -> int:
    """How many of a process's rows count, the first ones: the last batch is filled up so that every process has one."""
    state = accelerator.gradient_state
    if not state.end_of_dataloader or state.remainder <= 0:
        return rows
    return min(max(state.remainder - accelerator.process_index * rows, 0), rows)
