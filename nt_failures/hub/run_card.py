"""Write the card of a run into its folder, with the figures: from a trainer, or from a folder on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nt_failures.data.tokenizer import encode_rows
from nt_failures.diagnosis import report
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.hub import usage as snippet
from nt_failures.hub.card import model_card
from nt_failures.hub.card_data import Run, base_model
from nt_failures.hub.integrity import read_object
from nt_failures.hub.load import load
from nt_failures.hub.run_files import RESULTS_FILE, budget_of, changed_arguments, hardware, learning_curve, versions
from nt_failures.models import lora
from nt_failures.models.families import from_folder
from nt_failures.models.load import parameter_count
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task

if TYPE_CHECKING:
    from nt_failures.training.trainer import ObjectiveTrainer

FIGURES = ("forced_vs_free.png", "graph.png", "learning.png")
CARD = "README.md"


def card_of_trainer(
    trainer: "ObjectiveTrainer",
    language: str | None = None,
    license: str | None = None,
    tags: str | list[str] | None = None,
    model_name: str | None = None,
    finetuned_from: str | None = None,
    tasks: str | list[str] | None = None,
    dataset_tags: str | list[str] | None = None,
    dataset: str | list[str] | None = None,
    dataset_args: str | list[str] | None = None,
) -> None:
    """What `ObjectiveTrainer.create_model_card` does, with transformers' arguments.

    `dataset` and `dataset_args` describe results on data that a task does not name; here the task names them.
    """
    folder = Path(trainer.args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if trainer.is_fsdp_enabled:  # one process writes the card, and a sharded model answers only if all of them ask
        model = load(str(folder)).model
    else:
        model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    results = read_results(folder)
    if not _is_of(results, trainer):
        results = known_results(trainer)
    given = {"language": language, "license": license, "tags": [tags] if isinstance(tags, str) else tags or []}
    given |= {"base_model": finetuned_from, "pipeline_tag": tasks, "datasets": dataset_tags}
    if finetuned_from is None and "arguments" not in results:
        given["base_model"] = base_model(model.name_or_path)
    write_card(
        folder,
        model,
        trainer.processing_class,
        trainer.objective,
        trainer.task,
        results,
        name=model_name or folder.resolve().name,
        **given,
    )


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of a folder, empty where there is none."""
    path = folder / RESULTS_FILE
    return read_object(path) if path.is_file() else {}


def _is_of(results: Mapping[str, Any], trainer: "ObjectiveTrainer") -> bool:
    """Whether the results on disk are of the model that the trainer holds, not of an earlier one in the same folder."""
    steps = (trainer.state.global_step, trainer.state.best_global_step)
    return results.get("steps", -1) in steps and results.get("parameters") == parameter_count(trainer.model)


def known_results(trainer: "ObjectiveTrainer") -> dict[str, Any]:
    """Those entries of a results.json that a trainer knows by itself."""
    task, known = trainer.task, {"training_arguments": changed_arguments(trainer.args)}
    known |= {"parameters": parameter_count(trainer.model), "versions": versions(), "hardware": hardware()}
    known["learning_curve"] = learning_curve(trainer.state)
    if from_folder(auxiliary_modules.plain(trainer.model).name_or_path):
        known["local"] = ["model"]
    evaluated = [entry for entry in trainer.state.log_history if "eval_loss" in entry or "eval_free/exact" in entry]
    if evaluated:
        last = {name.removeprefix("eval_"): value for name, value in evaluated[-1].items() if name.startswith("eval_")}
        known["metrics"] = last
    if evaluated and trainer.eval_rows is not None:
        known["n"] = trainer.eval_rows
    if task is not None:
        known |= {"chance": task.chance, "decision_position": task.decision_position(trainer.objective.order)}
    if trainer.throughput is not None:
        known["throughput"] = trainer.throughput.to_dict()
    if trainer.state.global_step:
        budget = budget_of(trainer)
        known |= {"steps": budget.steps, "examples": budget.examples, "flops": budget.flops}
    return known


def write_card(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    objective: Objective,
    task: Task | None,
    results: Mapping[str, Any],
    name: str,
    **given: Any,
) -> None:
    """Write README.md and the figures that the results allow. `given`: see `card.metadata`."""
    settings, tokens, notes = model.generation_config.max_new_tokens, None, ()
    if task is not None and tokenizer is not None:
        prompt, answer = snippet.instance(task)
        tokens = len(encode_rows(tokenizer, [prompt], [answer])["target_ids"][0])
        notes = snippet.notes(task, tokenizer)
        draw(folder, ModelPredictor(model, tokenizer, objective, task), task, results)
    run = Run(
        name=name,
        architecture=type(model).__name__,
        objective=objective,
        task=task,
        results=results,
        answer_tokens=settings if tokens is None else tokens,
        settled=settings is not None and settings == (tokens or settings),
        figures=[figure for figure in FIGURES if (folder / figure).exists()],
        notes=notes,
        adapter=lora.has_adapter(auxiliary_modules.plain(model)),
    )
    model_card(run, **given).save(folder / CARD)


def draw(folder: Path, predictor: ModelPredictor, task: Task, results: Mapping[str, Any]) -> None:
    """The figures of a card; those that an earlier run left and this one does not make are removed."""
    for figure in FIGURES:
        (folder / figure).unlink(missing_ok=True)
    decision = task.decision_position(predictor.order)
    metrics = results.get("metrics", {})
    measured = {way: report.positions(metrics, way) for way in ("forced", "free")}
    if "n" in results and all(measured.values()):
        data = results.get("arguments", {}).get("data", {})
        held_out = task.block(data.get("dataset_seed", 0), "test", 0, data.get("overlap", "forbid"))
        example = report.example_of(predictor, task, held_out)
        report.draw(folder, measured | {"n": results["n"]}, decision, task.chance, example)
    way = "forced" if predictor.autoregressive else "free"
    report.draw_learning(folder, results.get("learning_curve", ()), way, decision, task.chance)


def card_of_folder(folder: Path, name: str) -> None:
    """Write the card of a finished run from its folder alone; where and with what it ran stays unsaid if no file says it."""
    loaded = load(str(folder))
    results = {"parameters": parameter_count(loaded.model)} | read_results(folder)
    write_card(folder, loaded.model, loaded.tokenizer, loaded.objective, loaded.task, results, name)


def published_card(folder: Path, repo_id: str) -> bytes:
    """The card as it is pushed: with the name of its repository in the snippet. The one in the folder means the folder."""
    return snippet.named((folder / CARD).read_text(encoding="utf-8"), repo_id).encode()
