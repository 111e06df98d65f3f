"""Objectives under one protocol, side by side: who solves the task how often, how soon, at what cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from nt_failures.experiments.study.summary import COLUMNS, best_first, cells, diverged_note


def table(groups: Sequence[Mapping[str, Any]]) -> str:
    """Objectives side by side as a Markdown table, the most often and soonest solved first.

    Args:
        groups: of `summarise`, each with `rate`, the chosen multiple of the recipe's learning rates.
    """
    head = ("objective", "rate", "solved", "median steps to solve", "median FLOPs to solve", "exact, mean [95 %]")
    head += ("follows wrong arm", "verdicts")
    rows = [head, ("---",) * len(head)]
    for group in best_first(groups):
        named = dict(zip(COLUMNS, cells(group), strict=True))
        flops = "-" if group["flops_to_solve"] is None else f"{group['flops_to_solve']:.1e}"
        rate = "-" if group["rate"] is None else f"x {group['rate']:g}"
        rows.append((group["name"], rate, named["solved"], named["steps to solve"], flops, named["exact, mean [95 %]"],
                     named["follows wrong arm"], named["verdict"]))  # fmt: skip
    counts = " or ".join(f"{n:,}" for n in sorted({group["n"] for group in groups}))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += [
        "",
        f"n = {counts} held-out graphs a run, greedy decoding in the objective's own way. `solved`: seeds with exact >= 95 %, with the "
        "Wilson interval of the solve probability. `steps to solve`: median over solved seeds of the first evaluation from which validation "
        "accuracy stays >= 95 %, to the run's end; > N: none within N steps. FLOPs: forward and backward of the objective's own step, "
        "counted (nt_failures/training/flops.py), without the optimizer's own. "
        f"`rate`: times the recipe's learning rates, chosen on validation graphs. Chance {groups[0]['chance']:.0%}.",
    ]
    return "\n".join(lines) + "\n" + diverged_note(groups)
