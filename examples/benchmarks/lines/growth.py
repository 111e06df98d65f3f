"""What a row costs as the task grows, in one figure: a line above the dotted one grows faster than its work."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

import nt_failures as ntf
from lines.measure import interleaved
from nt_failures.data.columns import to_table
from nt_failures.data.word_table import WordTable
from nt_failures.diagnosis.figures.style import BLUE, GREEN, GREY, ORANGE

PARAMETERS: dict[str, list[tuple[int, tuple[int, int, int], int]]] = {
    "degree": [(d, (d, 5, 200), 4096) for d in (1, 2, 5, 10, 20, 40)],
    "path_length": [(n, (2, n, 200), 4096) for n in (2, 5, 10, 20, 40, 80)],
    "num_nodes": [(n, (2, 5, n), 4096) for n in (10, 50, 250, 1000, 5000, 50000)],
    "rows": [(n, (2, 5, 50), n) for n in (256, 1024, 4096, 16384, 65536, 262144)],
}
"""By parameter: its value, the task, and the rows drawn at once."""
SERIES = (
    ("sample", BLUE, "o"),
    ("text and Arrow", ORANGE, "s"),
    ("encode", GREEN, "^"),
)


def grow(quick: bool) -> dict[str, Any]:
    """Microseconds per row of drawing, of text and Arrow, and of encoding, for each parameter and value, in turn."""
    places = [
        (parameter, *place)
        for parameter, all_of_it in PARAMETERS.items()
        for place in all_of_it[: 2 if quick else None]
    ]
    works, found = {}, {parameter: [] for parameter in PARAMETERS}
    for parameter, value, size, rows in places:
        task, rows = ntf.PathStar(*size), min(rows, 64) if quick else rows
        found[parameter].append({"value": value, "edges": task.num_edges, "rows": rows})
        works |= {(parameter, value, name): work for name, work in _works(task, rows).items()}
    times = interleaved(works, 1 if quick else 7, warm=True)
    for parameter, entries in found.items():
        for entry in entries:
            entry |= {name: 1e6 * times[parameter, entry["value"], name] / entry["rows"] for name, *_ in SERIES}
    return found


def _works(task: ntf.PathStar, rows: int) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    columns = task.sample(rng, rows)
    words = WordTable.of(ntf.word_level_tokenizer(task))
    prompts = to_table(task, columns)["prompt"].combine_chunks()
    return {
        "sample": lambda: task.sample(rng, rows),
        "text and Arrow": lambda: to_table(task, columns),
        "encode": lambda: words.encode(prompts),
    }


def figure(found: dict[str, Any]) -> Figure:
    """A panel for each parameter, log-log: time per row, and how the row's edges grow."""
    whole = Figure(figsize=(10, 6.5), dpi=140, layout="constrained")
    panels = whole.subplots(2, 2).flat
    for (parameter, entries), axes in zip(found.items(), panels, strict=True):
        values = [entry["value"] for entry in entries]
        for name, colour, marker in SERIES:
            axes.plot(values, [entry[name] for entry in entries], color=colour, marker=marker, label=name)
        last = max(entries[-1][name] for name, *_ in SERIES)
        work = [last * entry["edges"] / entries[-1]["edges"] for entry in entries]
        axes.plot(values, work, color=GREY, linestyle=":", label="in proportion to the edges of a row")
        axes.set(xscale="log", yscale="log", xlabel=parameter, ylabel="microseconds per row")
        low, high = axes.get_ylim()
        # A decade at least, so that noise does not look like growth.
        axes.set_ylim(min(low, last / 20), max(high, 1.6 * last))
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.xaxis.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E5E5E5", linewidth=0.8)
    whole.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return whole
