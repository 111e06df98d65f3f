"""What a card says of a model, and its YAML head: tags, data, base model, and the `model-index`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from nt_failures import registry
from nt_failures.data.registration import builder_class
from nt_failures.evaluation.metrics import DECODINGS, positions_of, wilson
from nt_failures.hub.run_results import SHARE, RunResults
from nt_failures.models.families import from_scratch
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A trained model and what is known of its run: what a card is made from."""

    name: str
    """of the model, any text"""
    architecture: str
    """class of the model, such as `GPT2LMHeadModel`"""
    objective: Objective
    task: Task | None
    results: RunResults
    stock: bool
    """whether stock `generate` answers as the objective decodes"""
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
    def continued(self) -> bool:
        """Whether training began from a model in a local folder, which is not published."""
        return "model" in (self.results.local or ())

    @property
    def dataset(self) -> str | None:
        """Name for `load_dataset` of its rows; None where there is none, or they came from a file."""
        builder = None if self.results.files else builder_class(type(self.task))
        return builder and builder.REPO_ID

    @property
    def base_model(self) -> str | None:
        """Hub id of the model it was fine-tuned from; None for a new one, or one from a folder."""
        return None if self.continued else base_model((self.results.arguments or {}).get("model", {}).get("model"))


def base_model(name: str | None) -> str | None:
    """`name` if it is the id of a model on the Hub, by its form: no size such as gpt2-4x64, no folder."""
    if not name or Path(name).exists() or from_scratch(name):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def metadata(run: PublishedModel, **given: Any) -> ModelCardData:
    """The YAML head: tags, data, base model, and every measured share as a result of the `model-index`.

    Args:
        given: fields of `ModelCardData` that the caller knows better; `tags` come on top.
    """
    kind, stock = registry.name_of(type(run.objective)).rpartition(".")[2], run.stock
    dataset = run.dataset
    tags = ["nt_failures", "next-token-prediction", kind, f"{run.objective.order}-order"]
    if run.task is not None:
        tags.insert(1, registry.name_of(type(run.task)).rpartition(".")[2].replace("_", "-"))
    fields = {
        "license": "apache-2.0" if run.base_model is None and not run.continued else None,
        "library_name": "nt_failures" if not stock else "peft" if run.adapter else "transformers",
        "pipeline_tag": "text-generation" if stock else None,
        "datasets": None if dataset is None else [dataset],
        "base_model": run.base_model,
        **{name: value for name, value in given.items() if value is not None},
    }
    if run.adapter and fields["base_model"] is not None:
        fields["base_model_relation"] = "adapter"
    fields["tags"] = [*tags, *(["lora"] if run.adapter else []), *given.get("tags", ())]
    if results := eval_results(run, dataset):
        fields |= {"model_name": " ".join(run.name.split()) or "model", "eval_results": results}
    return ModelCardData(**fields)


def eval_results(run: PublishedModel, dataset: str | None) -> list[EvalResult]:
    """Every metric of the run, under the name that `ObjectiveTrainer.evaluate` gives it, with n and its interval.

    The `type` is the Hub's word for the kind of number (`exact_match`, `accuracy`), the `name` is ours
    (`free/exact`, `forced/position_2`). Metrics of rows that belong to no task are left out: a result needs data.
    """
    if run.task is None or dataset is None:
        return []
    results, data = run.results, run.results.data_arguments
    drawn = {"seed": data["dataset_seed"], "overlap": data["overlap"]} if data else {}
    where = {
        "task_type": "text-generation",
        "task_name": "path finding" if dataset.endswith("pathstar") else "lookahead task",
        "dataset_type": dataset,
        "dataset_name": f"{type(run.task).__name__} {run.task.config_name}",
        "dataset_config": run.task.config_name,
        "dataset_split": "test" if data else None,
        "dataset_args": {**run.task.to_dict(), **drawn},
    }
    counts = {name: int(count) for name, count in positions_of(results.metrics or {}, "n").items()}
    by_name = {f"{way}/position_{k}": count for way in DECODINGS for k, count in counts.items()}
    decision = (results.diagnosis or {}).get("decision_token") or {}
    if not run.task.alike:  # only some rows decide, and without a diagnosis nobody knows how many
        by_name["decision"] = decision.get("n")
    found = [_result(name, value, by_name.get(name, results.n), where) for name, value in results.scores.items()]
    if results.diagnosis:
        cheat = results.diagnosis["clever_hans"] or {}
        rates = {f"cheat/{name}": value for name, value in cheat.items() if name.endswith("_rate")}
        found += [_result(name, value, cheat["n"], where) for name, value in rates.items()]
        if "train_accuracy" in decision:
            train = where | {"dataset_split": "train"}
            found.append(_result("decision", decision["train_accuracy"], decision["train_n"], train))
    return found


def _result(name: str, value: float, n: int | None, where: Mapping[str, Any]) -> EvalResult:
    kind, args = name, None
    if SHARE.fullmatch(name):
        kind = "exact_match" if name.endswith("/exact") else "accuracy"
        if n is not None and not name.endswith("/creativity"):  # which depends on how many answers were asked for
            args = {"n": n, "interval_95": list(wilson(value * n, n))}
    number = value if math.isfinite(value) else str(value)  # JSON, in which the Hub keeps it, has no NaN
    return EvalResult(metric_type=kind, metric_value=number, metric_name=name, metric_args=args, **where)
