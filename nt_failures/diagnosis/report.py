"""From measured numbers to text and figures that a person reads."""

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nt_failures.diagnosis import figures
from nt_failures.evaluation.metrics import DECODINGS, Accuracies, Shares, positions_of, wilson
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task


def markdown(text: object) -> str:
    """Any text as one line of plain Markdown: what a name or a message contains is shown, never interpreted."""
    line = " ".join(html.escape(str(text), quote=False).split())
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", line)


def percent(share: float, n: int) -> str:
    """Share with its 95 % Wilson interval, in percent: ` 49.8 % [49.1, 50.5]`."""
    low, high = wilson(share * n, n)
    return f"{100 * share:5.1f} % [{100 * low:5.1f}, {100 * high:5.1f}]"


def position_table(accuracies: Accuracies, decision: int, chance: float) -> str:
    """Table by position: forced, free and, where it was measured, parallel accuracy, with intervals and n below it."""
    shares = {name: found for name in DECODINGS if (found := getattr(accuracies, name)) and found.positions}
    n, positions = accuracies.n, next(iter(shares.values())).positions
    rows = [["position", *shares]]
    for k in positions:
        name = f"{k} <- decision" if k == decision else str(k)
        rows.append([name, *(percent(found.positions[k], n) for found in shares.values())])
    rows.append(["whole path", *(percent(found.exact, n) for found in shares.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(shares) + 1)]
    rows.insert(1, ["-" * width for width in widths])
    rows.insert(-1, ["-" * width for width in widths])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    note = f"n = {n:,} held-out instances, 95 % intervals in brackets, chance at the decision {100 * chance:.1f} %"
    return "\n".join([*lines, note])


def paragraph(text: str, first: str = "") -> str:
    """A paragraph for the terminal, as wide as the README shows it."""
    return textwrap.fill(text, 95, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)


def accuracies_of(found: Mapping[str, Any]) -> Accuracies:
    """The accuracies of a diagnosis."""
    measured = found["forced_vs_free"]
    forced, free = Shares(measured["forced_exact"], measured["forced"]), Shares(measured["exact"], measured["free"])
    return Accuracies(measured["n"], forced, free)


def diagnosis_text(found: Mapping[str, Any], task: Task) -> str:
    """A diagnosis for the terminal."""
    table = position_table(accuracies_of(found), found["decision_token"]["position"], task.chance)
    said = "\n".join(paragraph(line, "- ") for line in findings(found))
    return "\n\n".join([table, said, paragraph(found["verdict"]["text"])])


def findings(found: Mapping[str, Any]) -> list[str]:
    """One sentence per measured claim, and the reason for each that was not. `found` may come from JSON."""
    lines = [*_accuracy(found["forced_vs_free"], found["decision_token"])]
    if (places := found.get("by_place")) and places["differ"]:
        lines.append(_places(places))
    if cheat := found["clever_hans"]:
        lines.append(
            f"put on a wrong arm it follows it in {percent(cheat['follow_rate'], cheat['n']).strip()}, jumps to the "
            f"right arm in {cheat['jump_rate']:.1%}, does neither in {cheat['break_rate']:.1%}; the last symbol, a "
            f"copy from the prompt, is then right in {cheat['last_position']['free']['right_copy']:.1%}"
        )
    if order := found["learning_order"]:
        reached = {int(k): step for k, step in order["step"].items()}  # JSON has made text of the positions
        steps = [f"{k} by step {reached[k]:,}" for k in order["order"]]
        steps += [f"{k} not by step {order['last_step']:,}" for k, step in reached.items() if step is None]
        lines.append(f"positions reached {order['threshold']:.0%}: {', '.join(steps)}")
    return lines + [f"{name} not measured: {reason}" for name, reason in found["not_measured"].items()]


def _accuracy(measured: Mapping[str, Any], decision: Mapping[str, Any]) -> list[str]:
    lines = [f"exact paths: {percent(measured['exact'], measured['n']).strip()}"]
    if measured["snowball_prediction"] is not None:
        lines[0] += (
            f"; snowballing would predict {measured['snowball_prediction']:.1%} (the product of all forced "
            f"accuracies), {measured['snowball_without_decision']:.1%} from the positions other than the decision alone"
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
    return lines


def _places(found: Mapping[str, Any]) -> str:
    shares = {int(k): share for k, share in found["accuracy"].items()}  # JSON has made text of the places
    worst, best = min(shares, key=shares.get), max(shares, key=shares.get)
    ends = [f"{shares[k]:.1%} where it is number {k}" for k in (worst, best)]
    return f"decision by where {found['clue']} is shown: from {' to '.join(ends)} of {found['places']}"


def diagnosis_markdown(found: Mapping[str, Any], task: Task, name: str, objective: Objective, described: bool) -> str:
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
        position_table(accuracies_of(found), found["decision_token"]["position"], task.chance),
        "```",
        "",
        *(f"- {line}" for line in findings(found)),
        "",
        "![accuracy by position](forced_vs_free.png)",
        "",
        "![a graph and the answer](graph.png)",
        "",
    ]
    if found["learning_order"]:
        lines += ["![accuracy over training](learning.png)", ""]
    return "\n".join(lines)


def draw(
    folder: Path, accuracies: Accuracies, decision: int, chance: float, example: Mapping[str, Any] | None = None
) -> None:
    """Write `forced_vs_free.png` into a folder, and `graph.png` of an `Observations.example` that is a graph."""
    forced, free = accuracies.forced.positions, accuracies.free.positions
    figures.save(figures.forced_vs_free(forced, free, accuracies.n, decision, chance), folder / "forced_vs_free.png")
    if example is not None and "edges" in example:
        figures.save(figures.path_star(**example), folder / "graph.png")


def draw_learning(
    folder: Path, curve: Sequence[Mapping[str, float]], decoding: str, decision: int, chance: float
) -> bool:
    """Write `learning.png` into a folder; False, and no file, where no evaluation during training had positions."""
    if not any(positions_of(entry, decoding) for entry in curve):
        return False
    figures.save(figures.learning_curves(curve, decoding, decision, chance), folder / "learning.png")
    return True


def throughput_line(found: Mapping[str, Any]) -> str:
    """The throughput of a training in one line."""
    speed = f"{found['tokens_per_second']:,.0f} tokens/s, {found['flops_per_second'] / 1e12:.4g} TFLOP/s"
    peak = found["peak_flops"]
    share = "" if peak is None else f", MFU {found['mfu']:.1%} of {peak / 1e12:.4g} TFLOP/s"
    devices = found["device"] if found["processes"] == 1 else f"{found['processes']} x {found['device']}"
    kernels = f"{found['attention'] or 'no'} attention, {'compiled' if found['compiled'] else 'eager'}"
    return f"{speed}{share} ({devices}, {found['precision']}, {kernels})"
