"""From measured numbers to text a person reads."""

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nt_failures.diagnosis import figures
from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.predictor import Columns, Predictor
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task


def markdown(text: object) -> str:
    """Any text as one line of plain Markdown: what a name or a message contains is shown, never interpreted."""
    line = " ".join(html.escape(str(text), quote=False).split())
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", line)


def positions(metrics: Mapping[str, float], way: str) -> dict[int, float]:
    """`{way}/position_k` of unprefixed metrics as a mapping from k to share."""
    start = f"{way}/position_"
    return {
        int(k): v for name, v in metrics.items() if name.startswith(start) and (k := name[len(start) :]).isdecimal()
    }


def percent(share: float, n: int) -> str:
    """Share with its 95 % Wilson interval, in percent: ` 49.8 % [49.1, 50.5]`."""
    low, high = wilson(share * n, n)
    return f"{100 * share:5.1f} % [{100 * low:5.1f}, {100 * high:5.1f}]"


def position_table(metrics: Mapping[str, float], n: int, decision: int, chance: float) -> str:
    """Table by position: forced, free and, where it was measured, parallel accuracy on n held-out instances.

    Args:
        metrics: as `ObjectiveTrainer.evaluate` gives them, without the `eval_` prefix.
    """
    ways = [way for way in ("forced", "free", "parallel") if positions(metrics, way)]
    rows = [["position", *ways]]
    for k in positions(metrics, ways[0]):
        name = f"{k} <- decision" if k == decision else str(k)
        rows.append([name, *(percent(metrics[f"{way}/position_{k}"], n) for way in ways)])
    rows.append(["whole path", *(percent(metrics[f"{way}/exact"], n) for way in ways)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(ways) + 1)]
    rows.insert(1, ["-" * width for width in widths])
    rows.insert(-1, ["-" * width for width in widths])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(
        f"n = {n:,} held-out instances, 95 % intervals in brackets, chance at the decision {100 * chance:.1f} %"
    )
    return "\n".join(lines)


def paragraph(text: str, first: str = "") -> str:
    """A paragraph for the terminal, as wide as the README shows it."""
    return textwrap.fill(text, 95, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)


def _flat(found: Mapping[str, Any]) -> dict[str, float]:
    """The forced and free shares of a diagnosis under the names of `ObjectiveTrainer.evaluate`."""
    measured = found["forced_vs_free"]
    flat = {f"{way}/position_{k}": share for way in ("forced", "free") for k, share in measured[way].items()}
    return flat | {"forced/exact": measured["forced_exact"], "free/exact": measured["exact"]}


def diagnosis_text(found: Mapping[str, Any], task: Task) -> str:
    """A diagnosis for the terminal."""
    decision = found["decision_token"]
    table = position_table(_flat(found), found["forced_vs_free"]["n"], decision["position"], task.chance)
    said = "\n".join(paragraph(line, "- ") for line in findings(found))
    return "\n\n".join([table, said, paragraph(found["verdict"]["text"])])


def findings(found: Mapping[str, Any]) -> list[str]:
    """One sentence per measured claim, and the reason for each that was not."""
    measured, decision, cheat, order = (
        found[name] for name in ("forced_vs_free", "decision_token", "clever_hans", "learning_order")
    )
    n = measured["n"]
    lines = [f"exact paths: {percent(measured['exact'], n).strip()}"]
    if measured["snowball_prediction"] is not None:
        lines[0] += (
            f"; snowballing would predict {measured['snowball_prediction']:.1%} (the product of all forced accuracies), "
            f"{measured['snowball_without_decision']:.1%} from the positions other than the decision alone"
        )
    if measured["errors"]:
        lines.append(
            f"of {measured['errors']:,} wrong answers, {measured['first_error_at_decision']:.1%} go wrong first at the "
            f"decision, position {decision['position']}"
        )
    if "train_accuracy" in decision:
        low, high = decision["gap_interval"]
        lines.append(
            f"decision on training instances {decision['train_accuracy']:.1%}, held out {decision['accuracy']:.1%}: "
            f"memorisation gap {decision['memorisation_gap']:+.1%} [{low:+.1%}, {high:+.1%}]"
        )
    if (places := found.get("by_place")) and places["differ"]:
        shares = {int(k): share for k, share in places["accuracy"].items()}  # JSON has made text of the places
        ends = [
            f"{shares[k]:.1%} where it is number {k}"
            for k in (min(shares, key=shares.get), max(shares, key=shares.get))
        ]
        lines.append(f"decision by where {places['clue']} is shown: from {' to '.join(ends)} of {places['places']}")
    if cheat:
        copied = cheat["last_position"]["free"]["right_copy"]
        lines.append(
            f"put on a wrong arm it follows it in {percent(cheat['follow_rate'], cheat['n']).strip()}, jumps to the right "
            f"arm in {cheat['jump_rate']:.1%}, does neither in {cheat['break_rate']:.1%}; the last symbol, a copy from the "
            f"prompt, is then right in {copied:.1%}"
        )
    if order:
        reached = {int(k): step for k, step in order["step"].items()}  # JSON has made text of the positions
        steps = [f"{k} by step {reached[k]:,}" for k in order["order"]]
        steps += [f"{k} not by step {order['last_step']:,}" for k, step in reached.items() if step is None]
        lines.append(f"positions reached {order['threshold']:.0%}: {', '.join(steps)}")
    return lines + [f"{name} not measured: {reason}" for name, reason in found["not_measured"].items()]


def diagnosis_markdown(
    found: Mapping[str, Any], task: Task, name: str, objective: Objective, described: bool, figures: bool = True
) -> str:
    """A diagnosis as a Markdown page, with the figures that stand beside it."""
    described_as = "" if described else " (assumed: the model does not say)"
    lines = [
        f"# Diagnosis of {markdown(name)}",
        "",
        f"`{task}`, objective {type(objective).__name__}, order {objective.order}{described_as}.",
        "",
        f"**{found['verdict']['name']}** (rule: {found['verdict']['rule']})",
        "",
        found["verdict"]["text"],
        "",
        "```",
        position_table(_flat(found), found["forced_vs_free"]["n"], found["decision_token"]["position"], task.chance),
        "```",
        "",
        *(f"- {line}" for line in findings(found)),
        "",
    ]
    if figures:
        lines += ["![accuracy by position](forced_vs_free.png)", "", "![a graph and the answer](graph.png)", ""]
        if found["learning_order"]:
            lines += ["![accuracy over training](learning.png)", ""]
    return "\n".join(lines)


def draw(
    folder: Path, measured: Mapping[str, Any], decision: int, chance: float, example: Mapping[str, Any] | None = None
) -> None:
    """Write `forced_vs_free.png` and, with an example, `graph.png` into a folder.

    Args:
        measured: `forced` and `free` shares by position, on `n` instances.
        example: an instance with a model's `answer`, as `example_of` picks it; drawn if it is a graph.
    """
    shares = (measured["forced"], measured["free"], measured["n"])
    figures.save(figures.forced_vs_free(*shares, decision, chance), folder / "forced_vs_free.png")
    if example is not None and "edges" in example:
        figures.save(figures.path_star(**example), folder / "graph.png")


def draw_learning(folder: Path, curve: Sequence[Mapping[str, float]], way: str, decision: int, chance: float) -> bool:
    """Write `learning.png` into a folder; False, and no file, where no evaluation during training had positions."""
    if not any(positions(entry, way) for entry in curve):
        return False
    figures.save(figures.learning_curves(curve, way, decision, chance), folder / "learning.png")
    return True


def example_of(predictor: Predictor, task: Task, columns: Columns) -> dict[str, Any]:
    """One instance and the model's answer: the first wrong one of 64, or the first if none is wrong."""
    rows = {name: column[:64] for name, column in columns.items()}
    answers = predictor.free(rows)
    i = int((answers != task.answers(rows)).any(axis=1).argmax())
    return {**{name: column[i].tolist() for name, column in rows.items()}, "answer": answers[i].tolist()}


def throughput_line(found: Mapping[str, Any]) -> str:
    """`Throughput.to_dict` in one line."""
    used = (
        f"{found['precision']}, {found['attention'] or 'no'} attention, {'compiled' if found['compiled'] else 'eager'}"
    )
    rate, peak = (
        None if value is None else f"{value / 1e12:.4g} TFLOP/s"
        for value in (found["flops_per_second"], found["peak_flops"])
    )
    share = "" if peak is None else f", MFU {found['mfu']:.1%} of {peak}"
    devices = found["device"] if found["processes"] == 1 else f"{found['processes']} x {found['device']}"
    return f"{found['tokens_per_second']:,.0f} tokens/s, {rate}{share} ({devices}, {used})"
