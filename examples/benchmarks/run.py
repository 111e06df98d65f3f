"""How fast it is: ours, the alternative and the limit of the machine for every line, in one run, as Markdown and JSON.

python examples/benchmarks/run.py                       # all lines, about a quarter of an hour on one core
python examples/benchmarks/run.py sample build          # the lines whose names begin so
python examples/benchmarks/run.py --list

Every line measures its programs in turn and takes medians; see examples/benchmarks/lines/measure.py. A machine that is
busy with other work makes all of them slower; ratios suffer less.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and NumPy count the cores

import datasets
import torch
import transformers
from lines import data, evaluation, growth, process, steps
from lines.measure import Line, Measured, seconds

from nt_failures.diagnosis import figures
from nt_failures.experiments.study.summary import markdown_table
from nt_failures.hub import environment

LINES: list[Line] = [*data.LINES, *steps.LINES, *evaluation.LINES, *process.LINES]


def machine() -> dict[str, object]:
    """What the figures were measured on and with."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "versions": environment.versions(),
    }


QUICK = (
    "A quick run, at the smallest sizes whatever a line's name says: it shows that all runs; no figure means anything."
)


def row(line: Line, found: Measured) -> tuple[str, ...]:
    """One line of the table."""
    held = {True: "yes", False: "**no**", None: ""}[found.holds]
    ratio = "-" if found.ratio is None else f"{found.ratio:.3g}x"
    limit = "-" if found.limit is None else f"{seconds(found.limit)} ({found.ours / found.limit:.3g}x)"
    return line.work, seconds(found.ours), seconds(found.alternative), ratio, limit, line.target, held


def markdown(results: list[tuple[Line, Measured]], about: dict[str, object]) -> str:
    """The table, with its notes and what it was measured on."""
    head = ("work", "ours", "alternative", "ratio", "limit (ours / limit)", "target", "holds")
    table = markdown_table([head, *(row(line, found) for line, found in results)])
    notes = []
    for line, found in results:
        words = [f"against {line.against}"] if line.against else []
        words += [f"limit: {found.limit_is}"] if found.limit_is else []
        words += [f"{check}: {'yes' if held else 'no'}" for check, held in found.checks.items()]
        notes.append(f"- `{line.name}`: " + "; ".join([*words, *found.notes]))
    machine = f"{about['date']}, {about['cpu']}, {about['cores']} cores, {about['threads']} thread"
    base = f"{machine}, load {about['load_before']:.1f} before; {environment.in_words(about['versions'])}."
    return "\n".join([*([QUICK, ""] if about["quick"] else []), table, "", base, "", *notes, ""])


def as_json(line: Line, found: Measured) -> dict[str, object]:
    """Everything that was measured of a line, in seconds."""
    facts = {name: vars(line)[name] for name in ("name", "work", "against", "target")}
    return {**facts, **dataclasses.asdict(found), "ratio": found.ratio, "holds": found.holds}


def chosen(names: list[str]) -> list[Line]:
    """The lines whose names begin with one of these; all without names."""
    lines = [line for line in LINES if not names or any(line.name.startswith(name) for name in names)]
    unknown = [name for name in names if not any(line.name.startswith(name) for line in LINES) and name != "growth"]
    if unknown:
        sys.exit(f"error: no line begins with {unknown[0]!r}; --list shows them all.")
    return lines


def main(argv: list[str]) -> None:
    """Measure the chosen lines and write benchmark.md and .json, growth.json and .png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names; `growth` is the figure; default: everything")
    parser.add_argument(
        "--quick", action="store_true", help="the smallest sizes, once: shows that it runs, not how fast"
    )
    parser.add_argument("--list", action="store_true", help="show the names and end")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/benchmark"))
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(f"{line.name:28}{line.work}" for line in LINES) + f"\n{'growth':28}the figure")
        return
    lines = chosen(args.names)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    about, results = {**machine(), "quick": args.quick}, []
    if args.quick:
        print(f"{QUICK}\n")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        for line in lines:
            results.append((line, line.run(args.quick)))
            print(row(*results[-1]), flush=True)
    if results:
        whole = {"about": about, "lines": [as_json(*result) for result in results]}
        (args.output_dir / "benchmark.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        (args.output_dir / "benchmark.md").write_text(markdown(results, about), encoding="utf-8")
    if not args.names or "growth" in args.names:
        found = {"about": about, "microseconds_per_row": growth.grow(args.quick)}
        (args.output_dir / "growth.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        figures.save(growth.figure(found["microseconds_per_row"]), args.output_dir / "growth.png")
    print(f"\nwritten to {args.output_dir}")


if __name__ == "__main__":
    main(sys.argv[1:])
