"""The model card of a run: README.md from card_template.md, with its figures, out of what is known and nothing else."""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nt_failures import registry
from nt_failures.data.tokenizer import encode_rows
from nt_failures.diagnosis import report
from nt_failures.evaluation.metrics import format_percent
from nt_failures.hub.card_data import PublishedModel, metadata
from nt_failures.hub.environment import in_words
from nt_failures.hub.load import load
from nt_failures.hub.recipe import recipe_text, yaml_text
from nt_failures.hub.run_files import CARD, FIGURES
from nt_failures.hub.run_results import RunResults
from nt_failures.models import lora
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task
from nt_failures.tasks.facts import WORDS
from nt_failures.tasks.path_star import PathStar

TEMPLATE = Path(__file__).with_name("card_template.md")
ASKED = 16
"""Prompts for which the answers of stock `generate` are compared with an own objective's."""
CURVE_ROWS = 12
"""Evaluations shown in the table of a card."""
_NAME = re.compile(r'^name = "[^"\n]*"(?:  # this folder)?(?=\n(?:tokenizer = |run = nt_failures\.load))', re.MULTILINE)
"""The line of a card's snippet that says where the model is, also in a card that came from a repository."""


def write_card(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    objective: Objective,
    task: Task | None,
    results: RunResults,
    name: str,
    **given: Any,
) -> None:
    """Write README.md and the figures that the results allow. `given`: see `card_data.metadata`."""
    settled, tokens, answer_notes = model.generation_config.max_new_tokens, None, ()
    for figure in FIGURES:  # those that an earlier model left
        (folder / figure).unlink(missing_ok=True)
    if task is not None and tokenizer is not None:
        prompt, answer = instance(task, results.instance)
        tokens = len(encode_rows(tokenizer, [prompt], [answer])["target_ids"][0])
        answer_notes = notes(task, tokenizer, answer)
        draw(folder, objective, task, results)
    run = PublishedModel(
        name=name,
        architecture=type(model).__name__,
        objective=objective,
        task=task,
        results=results,
        answer_tokens=settled if tokens is None else tokens,
        settled=settled is not None and settled == (tokens or settled),
        figures=[figure for figure in FIGURES if (folder / figure).exists()],
        notes=answer_notes,
        adapter=lora.has_adapter(auxiliary_modules.unwrap_model(model)),
        stock=answers_as_stock(model, tokenizer, objective, task),
    )
    model_card(run, **given).save(folder / CARD)


def answers_as_stock(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, objective: Objective, task: Task | None
) -> bool:
    """Whether stock `generate` answers as the objective decodes. Of ours tests say so; a user's own is asked for a few
    prompts, and promises nothing where there are none."""
    if not objective.stock or type(objective).__module__.startswith("nt_failures."):
        return objective.stock
    if task is None or tokenizer is None:
        return False
    texts = {name: text.to_list() for name, text in task.texts(task.block(0, "test", 0, rows=ASKED)).items()}
    encoded = encode_rows(tokenizer, texts["prompt"], texts["completion"])
    was_training = model.training
    model.eval()
    try:
        for prefix, target in zip(encoded["prefix_ids"], encoded["target_ids"], strict=True):
            ids, length = torch.tensor([prefix], device=model.device), len(target)
            written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False)
            answer = written[0, len(prefix) :].flip(0 if objective.order == "reversed" else ())
            if not torch.equal(answer, objective.decode(model, ids, length)[0]):
                return False
    finally:
        model.train(was_training)
    return True


def card_of_folder(folder: Path, name: str) -> None:
    """Write the card of a finished run from its folder alone; what its results.json does not say stays unsaid."""
    run, results = load(str(folder)), RunResults.read(folder)
    write_card(folder, run.model, run.tokenizer, run.objective, run.task, results, name)


def published_card(folder: Path, repo_id: str) -> bytes:
    """The card as it is pushed: its snippet names the repository, where that of the card on disk names the folder."""
    return _NAME.sub(lambda _: f'name = "{repo_id}"', (folder / CARD).read_text(encoding="utf-8")).encode()


def made_here(text: str) -> bool:
    """Whether a card was made by `write_card`, also if it was changed by hand since: it tells of one model."""
    return _NAME.search(text) is not None


def draw(folder: Path, objective: Objective, task: Task, results: RunResults) -> None:
    """The figures of a card."""
    decision, chance = results.decision_position, results.chance
    if _by_position(results):
        report.draw(folder, results.accuracies, decision, chance, task, objective.order, results.example)
    report.draw_learning(folder, results.learning_curve or (), objective, decision, chance)


def _by_position(results: RunResults) -> bool:
    """Whether it is known how much is right at each position, with and without the true earlier symbols."""
    found = results.accuracies
    return found is not None and found.forced is not None and bool(found.forced.positions and found.free.positions)


def model_card(run: PublishedModel, **given: Any) -> ModelCard:
    """The card of a run; `given` fields replace those of `card_data.metadata`. ModelCard checks it as it is made."""
    return ModelCard.from_template(metadata(run, **given), template_path=str(TEMPLATE), **values(run))


def values(run: PublishedModel) -> dict[str, Any]:
    """What the template names. It escapes any text that is not ours by `markdown` or `fenced`."""
    objective, task, results = run.objective, run.task, run.results
    table, caption, recipe, known_arguments = None, None, None, None
    words = WORDS if task is None else task.words
    measured = results.diagnosis and results.diagnosis["forced_vs_free"]  # maybe of fewer rows than the test's
    if _by_position(results):
        table = report.position_table(results.accuracies, results.decision_position, results.chance, words)
        table, caption = table.rsplit("\n", 1)
    if results.arguments is not None:
        recipe = recipe_text(results.arguments, results.local or ()).rstrip()
    elif results.training_arguments is not None:
        known = {"objective": objective.to_dict(), "task": task.to_dict() if task else None}
        known_arguments = yaml_text(known | {"training": results.training_arguments}).rstrip()
    return _snippet_values(run) | {
        "run": run,
        "objective": objective,
        "objective_name": registry.name_of(type(objective)).rpartition(".")[2].replace("_", "-"),
        "about": task and about(task),
        "task_citation": task_citation(task),
        "results": results,
        "table": table,
        "caption": caption,
        "findings": report.findings(results.diagnosis, words) if results.diagnosis else [],
        "counted": measured and report.counted(measured["n"], measured.get("rows"), words),
        "versions": in_words(results.versions or {}),
        "curve": curve_rows(results.learning_curve or ()),
        "recipe": recipe,
        "known_arguments": known_arguments,
        "throughput_line": report.throughput_line,
        "markdown": report.markdown,
        "plural": registry.plural,
        "fenced": fenced,
    }


def _snippet_values(run: PublishedModel) -> dict[str, str]:
    """The held-out instance that the snippet asks for, and how; without a task, a prompt that is typed in."""
    prompt, answer = ('input("prompt: ")', "")
    if run.task is not None:
        asked, answer = instance(run.task, run.results.instance)
        prompt, answer = json.dumps(asked, ensure_ascii=False), answer.replace("\n", "\n# ")
    length = 'int(input("tokens: "))' if run.answer_tokens is None else str(run.answer_tokens)
    # peft reads the base model's generation settings, not the adapter's.
    settings = "" if run.settled and not run.adapter else f"max_new_tokens={length}, do_sample=False"
    return {"prompt": prompt, "answer": answer, "length": length, "settings": settings}


def about(task: Task) -> str:
    """What a task is: the first line of one of our files, or of a class of the user's own."""
    name, ours = type(task).__name__, type(task).__module__.startswith("nt_failures.")
    text = inspect.getdoc(inspect.getmodule(type(task)) if ours else type(task)) or ""
    if text.startswith(f"{name}("):  # what dataclasses write for a class without a docstring
        text = "a task of its author's own"
    return text.split("\n")[0].removeprefix(f"{name}: ").rstrip(".") + "."


def task_citation(task: Task | None) -> str | None:
    """The source of a task, "" where it names none; None for path-star, of the paper, which is named in any case."""
    return None if type(task) in (type(None), PathStar) else type(task).citation


def curve_rows(curve: Sequence[Mapping[str, float]]) -> list[dict[str, str]]:
    """The evaluations during training as text, at most CURVE_ROWS, evenly chosen, the last always among them."""
    kept = sorted({round(i * (len(curve) - 1) / (CURVE_ROWS - 1)) for i in range(CURVE_ROWS)}) if curve else []
    formats: dict[str, Callable[[float], str]] = {"step": "{:,}".format, "loss": "{:.4f}".format}
    formats |= dict.fromkeys(("free/exact", "parallel/exact", "decision"), format_percent)
    shown = {name: text for name, text in formats.items() if curve and name in curve[-1]}
    return [{name: text(curve[i][name]) for name, text in shown.items()} for i in kept]


def instance(task: Task, known: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Prompt and completion of the first held-out instance, as it is known or drawn."""
    if known is not None:
        return known["prompt"], known["completion"]
    text = task.texts(task.block(0, "test", 0, rows=1))
    return text["prompt"].to_list()[0], text["completion"].to_list()[0]


def notes(task: Task, tokenizer: PreTrainedTokenizerBase, answer: str) -> list[str]:
    """Markdown sentences: which labels a prompt may have, and how the printed answer differs from the right one."""
    shown = [code(symbol) for symbol in task.symbols if symbol.isalnum()]
    count = next(i for i, label in enumerate([*shown, ""]) if label != code(str(i)))  # numbers from 0 on
    shown[:count] = [f"{shown[0]} to {shown[count - 1]}"] if count > 2 else shown[:count]
    text = [] if task.free_text else [f"Labels of a prompt are {', '.join(shown)}; the model was trained on no others."]
    if isinstance(tokenizer.backend_tokenizer.model, WordLevel):
        text.append("With any other the tokenizer raises `Missing [UNK] token`.")
    printed = tokenizer.decode(encode_rows(tokenizer, [answer], [answer])["target_ids"][0])
    if printed != answer:
        text.append(f"Printed answers look a little different: {code(printed)} is the same answer as {code(answer)}.")
    return text


def code(text: str) -> str:
    """A code span of Markdown that nothing in the text can close."""
    ticks = _ticks(text, 1)
    return f"{ticks} {text} {ticks}" if "`" in text else f"{ticks}{text}{ticks}"


def fenced(text: str, language: str = "") -> str:
    """A code block that nothing in the text can close."""
    ticks = _ticks(text, 3)
    return f"{ticks}{language}\n{text}\n{ticks}"


def _ticks(text: str, least: int) -> str:
    """More backticks than stand together anywhere in the text."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))
