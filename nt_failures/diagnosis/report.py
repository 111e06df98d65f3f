"""From measured numbers to text and figures that a person reads."""

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nt_failures.diagnosis import figures
from nt_failures.evaluation.metrics import (
    DECODINGS,
    Accuracies,
    Shares,
    format_chance,
    format_percent,
    positions_of,
    wilson,
)
from nt_failures.objectives.base import Objective
from nt_failures.registry import plural
from nt_failures.tasks.base import Task
from nt_failures.tasks.facts import WORDS, Words


def markdown(text: object) -> str:
    """Any text as one line of plain Markdown: what a name or a message contains is shown, never interpreted."""
    line = " ".join(html.escape(str(text), quote=False).split())
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", line)


def percent(share: float, n: int) -> str:
    """Share with its 95 % Wilson interval, in percent: ` 49.8 % [ 49.1,  50.5]`."""
    share, low, high = (format_percent(x)[:-1].rjust(5) for x in (share, *wilson(share * n, n)))
    return f"{share} % [{low}, {high}]"


def position_table(accuracies: Accuracies, decision: int | None, chance: float | None, words: Words = WORDS) -> str:
    """Table by position: forced, free and, where it was measured, parallel accuracy, with intervals and n below it."""
    shares = {name: found for name in DECODINGS if (found := getattr(accuracies, name)) and found.positions}
    n, positions = accuracies.n, next(iter(shares.values())).positions
    rows = [["position", *shares]]
    for k in positions:
        name = f"{k} <- decision" if k == decision else str(k)
        rows.append([name, *(percent(found.positions[k], found.n.get(k, n)) for found in shares.values())])
    rows.append([f"whole {words.answer}", *(percent(found.exact, n) for found in shares.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(shares) + 1)]
    rows.insert(1, ["-" * width for width in widths])
    rows.insert(-1, ["-" * width for width in widths])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    note = f"n = {counted(accuracies.n, accuracies.rows, words)}, 95 % intervals in brackets"
    if chance is not None:
        note += f", chance at the decision {format_chance(chance).replace('%', ' %')}"
    return "\n".join([*lines, note])


def counted(n: int, rows: int | None, words: Words) -> str:
    """How many different problems were asked, and in how many rows: `20,000 different held-out graphs`.

    Without `rows`, n counts rows, and nobody has looked whether they differ.
    """
    if rows is None:
        return plural(n, f"held-out {words.problem}")
    of_rows = "" if rows == n else f" in {rows:,} rows"
    return plural(n, f"different held-out {words.problem}") + of_rows


def paragraph(text: str, first: str = "") -> str:
    """A paragraph for the terminal, as wide as the README shows it."""
    return textwrap.fill(text, 95, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)


def accuracies_of(found: Mapping[str, Any]) -> Accuracies:
    """The accuracies of a diagnosis."""
    measured = found["forced_vs_free"]
    some = measured["n_positions"]
    forced = None if measured["forced"] is None else Shares(measured["forced_exact"], measured["forced"], some)
    free = Shares(measured["exact"], measured["free"], some)
    return Accuracies(measured["n"], forced, free, rows=measured["rows"])


def diagnosis_text(found: Mapping[str, Any], task: Task) -> str:
    """A diagnosis for the terminal."""
    said = "\n".join(paragraph(line, "- ") for line in findings(found, task.words))
    table = _table(found, task)
    return "\n\n".join([table, said, paragraph(found["verdict"]["text"])])


def _table(found: Mapping[str, Any], task: Task) -> str:
    decision = found["decision_token"] or {}
    return position_table(accuracies_of(found), decision.get("position"), decision.get("chance"), task.words)


def findings(found: Mapping[str, Any], words: Words = WORDS) -> list[str]:
    """One sentence per measured claim, and the reason for each that was not. `found` may come from JSON."""
    lines = [*_accuracy(found["forced_vs_free"], found["decision_token"] or {}, words)]
    if (places := found.get("by_place")) and places["differ"]:
        lines.append(_places(places))
    for name, sizes in found.get("by_difficulty", {}).items():
        shares = ", ".join(f"{size}: {percent(each['exact'], each['n']).strip()}" for size, each in sizes.items())
        lines.append(f"exact {words.answer}s by {name}: {shares}")
    if new := found.get("originality"):
        lines.append(
            f"new {words.answer}s, right and surely of no train row: {format_percent(new['unseen'])}; each different "
            f"one counted once {format_percent(new['creativity'])}, where choosing among all right ones would give "
            f"{format_percent(new['ideal'])}"
        )
    if cheat := found["clever_hans"]:
        copied = format_percent(cheat["last_position"]["free"]["right_copy"])
        lines.append(
            f"put on a {words.detour} it follows it in {percent(cheat['follow_rate'], cheat['n']).strip()}, jumps to "
            f"the right {words.answer} in {format_percent(cheat['jump_rate'])}, does neither in "
            f"{format_percent(cheat['break_rate'])}; the last symbol is then right in {copied}"
        )
    if order := found["learning_order"]:
        reached = {int(k): step for k, step in order["step"].items()}  # JSON has made text of the positions
        steps = [f"{k} by step {reached[k]:,}" for k in order["order"]]
        steps += [f"{k} not by step {order['last_step']:,}" for k, step in reached.items() if step is None]
        lines.append(f"positions at {order['threshold']:.0%} for good: {', '.join(steps)}")
    lines += [f"{name} not measured: {reason}" for name, reason in found["not_measured"].items()]
    return lines + ([_asked(found["api"])] if "api" in found else [])


def _asked(api: Mapping[str, Any]) -> str:
    """How a model behind a server was asked."""
    options = ", ".join(f"{name} {value}" for name, value in api["options"].items())
    text = f"asked as {api['model']} at {api['url']}, prompts as {api['prompt_style']}, {options}"
    if api["cut_off"]:
        text += (
            f"; {api['cut_off']:,} of {api['answers']:,} answers were cut off before their end and count as they stand "
            "(a larger --max_tokens lets them end)"
        )
    if api.get("null"):
        text += (
            f"; {api['null']:,} of {api['answers']:,} answers were null, without any text, and count as wrong (such as "
            "refusals, tool calls, or thinking that came to no answer)"
        )
    if api.get("untagged"):
        text += f"; {api['untagged']:,} of {api['answers']:,} answers held no </answer> and count as wrong"
    return text


def _accuracy(measured: Mapping[str, Any], decision: Mapping[str, Any], words: Words) -> list[str]:
    lines = [f"exact {words.answer}s: {percent(measured['exact'], measured['n']).strip()}"]
    if measured["snowball_prediction"] is not None:
        lines[0] += (
            f"; snowballing would predict {format_percent(measured['snowball_prediction'])} (the product of all forced "
            f"accuracies), {format_percent(measured['snowball_without_decision'])} from the positions other than the "
            "decision alone"
        )
    if (at_decision := measured["first_error_at_decision"]) is not None:
        where = "" if decision["position"] is None else f", position {decision['position']}"
        lines.append(
            f"of {plural(measured['errors'], 'wrong answer')}, {format_percent(at_decision)} go wrong first at the "
            f"decision{where}"
        )
    if (chosen := decision.get("choices")) and chosen["right"] < 1:
        lines.append(
            f"at the decision {format_percent(chosen['right'])} are right, {format_percent(chosen['other'])} another "
            f"of the choices, {format_percent(chosen['none'])} none of them (n = {chosen['n']:,})"
        )
    if decision and decision["position"] is None:
        share, chance = percent(decision["accuracy"], decision["n"]).strip(), format_chance(decision["chance"])
        lines.append(f"decision, at a position of its own in each row: {share}, chance {chance}")
    if "train_accuracy" in decision:
        low, high = decision["gap_interval"]
        lines.append(
            f"decision on training instances {format_percent(decision['train_accuracy'])}, held out "
            f"{format_percent(decision['accuracy'])}: memorisation gap {decision['memorisation_gap']:+.1%} "
            f"[{low:+.1%}, {high:+.1%}]"
        )
    return lines


def _places(found: Mapping[str, Any]) -> str:
    shares = {int(k): share for k, share in found["accuracy"].items()}  # JSON has made text of the places
    worst, best = min(shares, key=shares.get), max(shares, key=shares.get)
    ends = [f"{format_percent(shares[k])} where it is number {k}" for k in (worst, best)]
    return f"decision by where {found['clue']} is shown: from {' to '.join(ends)} of {found['places']}"


def diagnosis_markdown(
    found: Mapping[str, Any], task: Task, name: str, objective: Objective, described: bool, pictured: bool
) -> str:
    """A diagnosis as a Markdown page, with the figures that stand beside it, `graph.png` only if `pictured`."""
    described_as = "" if described else " (assumed: the model does not say)"
    said = "\n".join(f"- {line}" for line in findings(found, task.words))
    page = f"""# Diagnosis of {markdown(name)}

`{task}`, objective {type(objective).__name__}, order {objective.order}{described_as}.

**{found["verdict"]["name"]}** (rule: {found["verdict"]["rule"]})

{found["verdict"]["text"]}

```
{_table(found, task)}
```

{said}

![accuracy by position](forced_vs_free.png)
"""
    if pictured:
        page += "\n![a problem and the answer](graph.png)\n"
    return page + "\n![accuracy over training](learning.png)\n" * bool(found["learning_order"])


def draw(
    folder: Path,
    accuracies: Accuracies,
    decision: int | None,
    chance: float | None,
    task: Task,
    order: str,
    example: Mapping[str, Any] | None = None,
) -> bool:
    """Write `forced_vs_free.png` into a folder, and `graph.png` of an `Observations.example`; whether it has one."""
    figure = figures.forced_vs_free(accuracies, decision, chance, task.words, order)
    figures.save(figure, folder / "forced_vs_free.png")
    picture = None if example is None else task.picture(example, example["prediction"])
    if picture is not None:
        figures.save(figures.path_star(**vars(picture), order=order), folder / "graph.png")
    return picture is not None


def draw_learning(
    folder: Path,
    curve: Sequence[Mapping[str, float]],
    objective: Objective,
    decision: int | None,
    chance: float | None,
) -> None:
    """Write `learning.png` into a folder, where an evaluation during training had positions."""
    decoding = objective.judged_decoding
    if any(positions_of(entry, decoding) for entry in curve):
        figure = figures.learning_curves(curve, decoding, decision, chance, objective.order)
        figures.save(figure, folder / "learning.png")


def throughput_line(found: Mapping[str, Any]) -> str:
    """The throughput of a training in one line."""
    speed = f"{found['tokens_per_second']:,.0f} tokens/s, {found['flops_per_second'] / 1e12:.4g} TFLOP/s"
    peak = found["peak_flops"]
    share = "" if peak is None else f", MFU {format_percent(found['mfu'])} of {peak / 1e12:.4g} TFLOP/s"
    devices = found["device"] if found["processes"] == 1 else f"{found['processes']} x {found['device']}"
    kernels = f"{found['attention'] or 'no'} attention, {'compiled' if found['compiled'] else 'eager'}"
    return f"{speed}{share} ({devices}, {found['precision']}, {kernels})"
