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
from nt_failures.hub.card_data import Run
from nt_failures.hub.json_files import read_object
from nt_failures.hub.load import load
from nt_failures.hub.run_files import RESULTS_FILE
from nt_failures.models import lora
from nt_failures.models.load import parameter_count
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task

if TYPE_CHECKING:
    pass

FIGURES = ("forced_vs_free.png", "graph.png", "learning.png")
CARD = "README.md"


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of a folder, empty where there is none."""
    path = folder / RESULTS_FILE
    return read_object(path) if path.is_file() else {}


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
        adapter=lora.has_adapter(auxiliary_modules.unwrap_model(model)),
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
