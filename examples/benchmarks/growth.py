"""What a row costs as the task grows, in one figure: a line that leaves the dotted one upwards grows faster than its work."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import nt_failures as ntf
from benchmarks.measure import interleaved
from nt_failures.builder import to_table
from nt_failures.figures import BLUE, GREEN, GREY, ORANGE
from nt_failures.words import WordTable

KNOBS: dict[str, list[tuple[int, tuple[int, int, int], int]]] = {
    "degree": [(d, (d, 5, 200), 4096) for d in (1, 2, 5, 10, 20, 40)],
    "path_length": [(n, (2, n, 200), 4096) for n in (2, 5, 10, 20, 40, 80)],
    "num_nodes": [(n, (2, 5, n), 4096) for n in (10, 50, 250, 1000, 5000, 50000)],
    "rows": [(n, (2, 5, 50), n) for n in (256, 1024, 4096, 16384, 65536, 262144)],
}
"""By knob: its value, the task, and the rows drawn at once."""


def grow(quick: bool) -> dict[str, Any]:
    """Microseconds per row of drawing, of text and Arrow, and of encoding, for each knob and value."""
    found: dict[str, Any] = {}
    for knob, places in KNOBS.items():
        for value, size, rows in places[:2] if quick else places:
            task, rng = ntf.PathStar(*size), np.random.default_rng(0)
            rows = min(rows, 64) if quick else rows
            columns = task.sample(rng, rows)
            table = to_table(task, columns)
            words = WordTable.of(ntf.word_level_tokenizer(task))
            prompts = table["prompt"].combine_chunks()
            works = {
                "sample": lambda task=task, rng=rng, rows=rows: task.sample(rng, rows),
                "text and Arrow": lambda task=task, columns=columns: to_table(task, columns),
                "encode": lambda words=words, prompts=prompts: words.encode(prompts),
            }
            times = interleaved(works, 1 if quick else 5)
            entry = {name: 1e6 * time / rows for name, time in times.items()}
            found.setdefault(knob, []).append({"value": value, "edges": task.num_edges, "rows": rows, **entry})
    return found


def figure(found: dict[str, Any]) -> Figure:
    """Four panels, one for each knob, log-log: time per row, and how the row's edges grow."""
    whole = Figure(figsize=(10, 6), dpi=140, layout="constrained")
    for axes, (knob, entries) in zip(whole.subplots(2, 2).flat, found.items(), strict=True):
        values = [entry["value"] for entry in entries]
        for name, colour, marker in (("sample", BLUE, "o"), ("text and Arrow", ORANGE, "s"), ("encode", GREEN, "^")):
            axes.plot(values, [entry[name] for entry in entries], color=colour, marker=marker, label=name)
        last = max(entries[-1][name] for name in ("sample", "text and Arrow", "encode"))
        work = [last * entry["edges"] / entries[-1]["edges"] for entry in entries]
        axes.plot(values, work, color=GREY, linestyle=":", label="in proportion to the edges of a row")
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.minorticks_off()
        axes.set(yscale="log", xlabel=knob, ylabel="microseconds per row")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E5E5E5", linewidth=0.8)
    handles, labels = axes.get_legend_handles_labels()
    whole.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return whole
