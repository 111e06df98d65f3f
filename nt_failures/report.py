"""From measured numbers to text a person reads."""

from collections.abc import Mapping
from typing import Any

from nt_failures.scoring import wilson


def positions(metrics: Mapping[str, float], way: str) -> dict[int, float]:
    """`{way}/position_k` of unprefixed metrics as a mapping from k to share."""
    start = f"{way}/position_"
    return {int(name[len(start) :]): share for name, share in metrics.items() if name.startswith(start)}


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


def summary(results: Mapping[str, Any], folder: str) -> str:
    """The end of a run: the table by position, the verdict, and where everything was written."""
    table = position_table(results["metrics"], results["n"], results["decision_position"], results["chance"])
    speed = f"{results['steps']:,} steps in {results['train_seconds']:,.0f} s"
    return f"\n{table}\n\n{results['diagnosis']['verdict']['text']}\n\n{speed}; model, tokenizer and results.json are in {folder}"
