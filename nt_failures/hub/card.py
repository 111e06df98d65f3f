"""The model card of a run: README.md with its metadata, from what is known of the run and nothing else."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import ModelCard

from nt_failures import registry
from nt_failures.diagnosis import report
from nt_failures.diagnosis.report import throughput_line
from nt_failures.evaluation.metrics import Accuracies, positions_of
from nt_failures.hub.card_data import NO_SCORE, Run, metadata
from nt_failures.hub.run_files import recipe_text
from nt_failures.hub.usage import other_ways, snippet
from nt_failures.tasks.base import Task

PAPER = "[The Pitfalls of Next-Token Prediction](https://arxiv.org/abs/2403.06963) (Bachmann and Nagarajan, 2024)"
CURVE_ROWS = 12
"""Evaluations shown in the table of a card."""


def model_card(run: Run, **metadata_fields: Any) -> ModelCard:
    """The card of a run; `metadata_fields` replace those of `metadata`. Checked by huggingface_hub as it is made."""
    data = metadata(run, **metadata_fields)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body(run)}")


def body(run: Run) -> str:
    """The Markdown below the head."""
    parts = [
        f"# {report.markdown(run.name)}",
        introduction(run),
        *_verdict(run),
        *_use(run),
        *_training(run),
        "## Sources",
        f"- The task and the failure: {PAPER}.",
    ]
    if run.objective.citation and "2403.06963" not in run.objective.citation:
        parts[-1] += f"\n- The objective: {report.markdown(run.objective.citation)}."
    return "\n\n".join(parts) + "\n"


def introduction(run: Run) -> str:
    """What it is, in two or three sentences."""
    objective, results = run.objective, run.results
    size = f" with {results['parameters']:,} parameters" if "parameters" in results else ""
    base = f", fine-tuned from [{run.base_model}](https://huggingface.co/{run.base_model})" if run.base_model else ""
    if "model" in run.local:
        base = ", continued from a local model that is not published (these steps come on top of its own)"
    if run.adapter:
        base += ", as a LoRA adapter beside its weights"
    kind = report.markdown(registry.name_of(type(objective)).rpartition(".")[2].replace("_", "-"))
    on = ""
    if run.task is not None:
        on = f" on `{run.task}`: {report.markdown(about(run.task))}"
    text = (
        f"A `{run.architecture}`{size}{base}, trained with the **{kind}** objective on targets in {objective.order} "
        f"order{on or '.'}\n\nMade with `nt_failures`, which measures where next-token prediction fails and why."
    )
    if objective.trained_positions is not None:
        places = ", ".join(map(str, objective.trained_positions))
        text += (
            f" Only position {places} of the answer was trained: judge it by what is right there, not by whole answers."
        )
    return text


def about(task: Task) -> str:
    """What a task is: the first line of its file, else of its class."""
    text = inspect.getdoc(inspect.getmodule(type(task))) or inspect.getdoc(type(task))
    return text.split("\n")[0].removeprefix(f"{type(task).__name__}: ").rstrip(".") + "."


def _verdict(run: Run) -> list[str]:
    results, parts = run.results, []
    diagnosis = results.get("diagnosis")
    if diagnosis:
        verdict = diagnosis["verdict"]
        parts += [f"## Verdict: {report.markdown(verdict['name'])}", report.markdown(verdict["text"])]
        parts += [f"Rule of the verdict: {report.markdown(verdict['rule'])}."]
    metrics = results.get("metrics", {})
    if {"n", "decision_position"} <= set(results) and positions_of(metrics, "forced"):
        table = report.position_table(
            Accuracies.from_names(metrics, results["n"]), results["decision_position"], results["chance"]
        )
        table, caption = table.rsplit("\n", 1)
        parts += [*([] if diagnosis else ["## Accuracy"]), fenced(table)]
        parts += [
            f"{caption}. `forced`: the true earlier symbols are revealed (teacher forcing). `free`: decoding on its own."
            + (" `parallel`: one pass behind dummies." if positions_of(metrics, "parallel") else "")
        ]
    elif metrics:
        rows = [f"| {report.markdown(name)} | {value:.4g} |" for name, value in metrics.items() if name not in NO_SCORE]
        parts += ["## Accuracy", "\n".join(["| metric | last evaluation |", "| --- | --- |", *rows])]
    if "forced_vs_free.png" in run.figures:
        parts += ["![Forced and free accuracy by position](forced_vs_free.png)"]
    if diagnosis:
        n = diagnosis["forced_vs_free"]["n"]
        parts += [f"### What was found on {n:,} held-out instances"]
        parts += ["\n".join(f"- {report.markdown(line)}" for line in report.findings(diagnosis))]
    if "graph.png" in run.figures:
        parts += ["![A held-out graph with the model's answer drawn on it](graph.png)"]
    return parts


def _use(run: Run) -> list[str]:
    stock = "`peft`, on its base model" if run.adapter else "stock `transformers`"
    package = stock if run.autoregressive else "`nt_failures`, which knows how the model decodes"
    return [
        "## Use",
        f"With {package}:",
        fenced(snippet(run), "python"),
        *filter(None, [" ".join(run.notes)]),
        *other_ways(run),
    ]


def _training(run: Run) -> list[str]:
    results, parts = run.results, []
    if known := facts(run):
        parts += ["\n".join(["| | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in known)])]
    if "learning.png" in run.figures:
        parts += ["![What is learnt when](learning.png)"]
    if curve := results.get("learning_curve"):
        parts += [curve_table(curve)]
    if "arguments" in results:
        if run.local:
            names = " and ".join(f"`{name}`" for name in run.local)
            parts += [
                f"All arguments, as in `recipe.yaml` beside this card. They do not give this model again: {names} was read "
                "from a local folder that is not published."
            ]
        else:
            parts += ["All arguments; the same file, `recipe.yaml`, stands beside this card and repeats the run:"]
            parts += [fenced("accelerate launch examples/train.py recipe.yaml", "bash")]
        parts += [fenced(recipe_text(results["arguments"], run.local).rstrip(), "yaml")]
    elif "training_arguments" in results:
        parts += ["Objective, task and the training arguments that differ from their defaults:"]
        known = {"objective": run.objective.to_dict(), "task": run.task.to_dict() if run.task else None}
        parts += [fenced(yaml_text(known | {"training": results["training_arguments"]}), "yaml")]
    return ["## Training", *parts] if parts else []


def facts(run: Run) -> list[tuple[str, str]]:
    """Budget, hardware and versions as rows of a table, those that are known."""
    results, rows = run.results, []
    if results.get("steps"):
        flops = f", {results['flops']:.2g} FLOPs" if results.get("flops") else ""
        on_top = ", on top of the local model's own" if "model" in run.local else ""
        since = f" since step {results['resumed_at']:,}" if results.get("resumed_at") else ""
        seconds = f", {results['train_seconds']:,.0f} s{since}" if "train_seconds" in results else ""
        rows.append(("budget", f"{results['steps']:,} steps, {results['examples']:,} examples{flops}{seconds}{on_top}"))
    if hardware := results.get("hardware"):
        threads = f", {hardware['threads']} threads" if hardware["device"] == "CPU" else ""
        rows.append(("hardware", f"{hardware['device']} ({hardware['machine']}{threads})"))
    if results.get("throughput"):
        rows.append(("throughput", throughput_line(results["throughput"])))
    versions = dict(results.get("versions", {}))
    commit = versions.pop("commit", None)
    if versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    if commit:
        rows.append(("commit", f"{commit} of nt_failures"))
    return [(name, report.markdown(text)) for name, text in rows]


def curve_table(curve: Sequence[Mapping[str, float]]) -> str:
    """The evaluations during training, at most CURVE_ROWS of them, evenly chosen, the last always among them."""
    kept = sorted({round(i * (len(curve) - 1) / max(1, CURVE_ROWS - 1)) for i in range(CURVE_ROWS)})
    names = [name for name in ("loss", "free/exact", "parallel/exact", "decision") if name in curve[-1]]
    lines = ["| step | " + " | ".join(names) + " |", "| ---: |" + " ---: |" * len(names)]
    for i in kept:
        cells = [f"{curve[i][n]:.4f}" if n == "loss" else f"{curve[i][n]:.1%}" for n in names]
        lines.append(f"| {curve[i]['step']:,} | " + " | ".join(cells) + " |")
    shown = "" if len(kept) == len(curve) else f" {len(kept)} of {len(curve)} evaluations are shown."
    return "\n".join(["Evaluations during training, on validation rows." + shown, "", *lines])


def yaml_text(value: Any) -> str:
    """YAML as it is read back by `yaml.safe_load`."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip()


def fenced(text: str, language: str = "") -> str:
    """A code block that nothing in the text can close."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"
