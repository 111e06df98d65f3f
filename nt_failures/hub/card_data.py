"""What is known of a run, and the YAML head of its card: tags, data, base model, and the `model-index`."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from nt_failures import registry
from nt_failures.data.registration import BUILDERS
from nt_failures.evaluation.metrics import wilson
from nt_failures.models.families import from_scratch
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task

NO_SCORE = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
"""What `evaluate` returns beside its metrics."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a card is made from."""

    name: str
    """of the model, any text"""
    architecture: str
    """class of the model, such as `GPT2LMHeadModel`"""
    objective: Objective
    task: Task | None
    results: Mapping[str, Any]
    """results.json, or those of its entries that are known"""
    answer_tokens: int | None = None
    """tokens of an answer, where that is known"""
    settled: bool = False
    """whether the model's own generation settings ask for as many"""
    figures: Sequence[str] = ()
    """file names of figures that stand beside the card"""
    notes: Sequence[str] = ()
    """Markdown sentences on how prompts and answers are written"""
    adapter: bool = False
    """whether it is an adapter beside the weights of the base model"""

    @property
    def autoregressive(self) -> bool:
        """Whether stock `generate` decodes it."""
        return self.objective.stock

    @property
    def local(self) -> Sequence[str]:
        """Which of "model" and "tokenizer" came from a folder of the machine that trained."""
        return self.results.get("local", ())

    @property
    def base_model(self) -> str | None:
        """Hub id of the model it was fine-tuned from; None for a new one, or one from a folder."""
        if "model" in self.local:
            return None
        return base_model(self.results.get("arguments", {}).get("model", {}).get("model"))


def base_model(name: str | None) -> str | None:
    """`name` if it is the id of a model on the Hub, by its form: no size such as gpt2-4x64, no folder."""
    if not name or Path(name).exists() or from_scratch(name):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def metadata(run: Run, **given: Any) -> ModelCardData:
    """The YAML head: tags, data, base model, and every measured share as a result of the `model-index`.

    Args:
        given: fields of `ModelCardData` that the caller knows better; `tags` come on top.
    """
    kind = registry.name_of(type(run.objective)).rpartition(".")[2]
    dataset = dataset_id(run.task)
    tags = ["nt_failures", "next-token-prediction", kind, f"{run.objective.order}-order"]
    if run.task is not None:
        tags.insert(1, registry.name_of(type(run.task)).rpartition(".")[2].replace("_", "-"))
    library = "peft" if run.adapter else "transformers"
    if run.adapter:
        tags.append("lora")
    fields = {
        "license": "apache-2.0" if run.base_model is None and "model" not in run.local else None,
        "library_name": library if run.autoregressive else "nt_failures",
        "pipeline_tag": "text-generation" if run.autoregressive else None,
        "datasets": None if dataset is None else [dataset],
        "base_model": run.base_model,
        **{name: value for name, value in given.items() if value is not None},
    }
    if run.adapter and fields["base_model"] is not None:
        fields["base_model_relation"] = "adapter"
    fields["tags"] = [*tags, *given.get("tags", ())]
    if results := eval_results(run, dataset):
        fields |= {"model_name": " ".join(run.name.split()) or "model", "eval_results": results}
    return ModelCardData(**fields)


def dataset_id(task: Task | None) -> str | None:
    """Name for `load_dataset` of a task's rows, None where it has none."""
    known = {builder.task_class: name for name, builder in BUILDERS.items()}
    return known.get(type(task))


def eval_results(run: Run, dataset: str | None) -> list[EvalResult]:
    """Every metric of the run, under the name that `ObjectiveTrainer.evaluate` gives it, with n and its interval.

    The `type` is the Hub's word for the kind of number (`exact_match`, `accuracy`), the `name` is ours
    (`free/exact`, `forced/position_2`). Metrics of rows that belong to no task are left out: a result needs data.
    """
    if run.task is None or dataset is None:
        return []
    knobs = run.results.get("arguments", {}).get("data", {})
    data = {"seed": knobs["dataset_seed"], "overlap": knobs["overlap"]} if knobs else {}
    where = {
        "task_type": "text-generation",
        "task_name": "path finding" if dataset.endswith("pathstar") else "lookahead task",
        "dataset_type": dataset,
        "dataset_name": f"{type(run.task).__name__} {run.task.config_name}",
        "dataset_config": run.task.config_name,
    }
    split = {"dataset_split": "test" if knobs else None, "dataset_args": {**run.task.to_dict(), **data}}
    n, found = run.results.get("n"), []
    for name, value in run.results.get("metrics", {}).items():
        if name not in NO_SCORE:
            found.append(_result(name, value, n, where | split))
    if diagnosis := run.results.get("diagnosis"):
        for name, value in (diagnosis["clever_hans"] or {}).items():
            if name.endswith("_rate"):
                found.append(_result(f"cheat/{name}", value, diagnosis["clever_hans"]["n"], where | split))
        decision = diagnosis["decision_token"]
        if "train_accuracy" in decision:
            train = where | split | {"dataset_split": "train"}
            found.append(_result("decision", decision["train_accuracy"], decision["train_n"], train))
    return found


def _result(name: str, value: float, n: int | None, where: Mapping[str, Any]) -> EvalResult:
    share = re.fullmatch(r"decision|(forced|free|parallel)/(exact|position_\d+)|cheat/\w+_rate", name)
    kind = name if share is None else "exact_match" if name.endswith("/exact") else "accuracy"
    counted = n is not None and share is not None
    args = {"n": n, "interval_95": list(wilson(value * n, n))} if counted else None
    number = value if math.isfinite(value) else str(value)  # JSON, in which the Hub keeps it, has no NaN
    return EvalResult(metric_type=kind, metric_value=number, metric_name=name, metric_args=args, **where)
