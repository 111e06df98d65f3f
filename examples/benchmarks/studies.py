"""Measure what a study adds to its runs: seconds of each run beyond its training, on each engine.

    python examples/benchmarks/studies.py                          # this machine's processes, and Ray
    python examples/benchmarks/studies.py --before ../earlier      # and reproduce.py of an earlier clone

In every round each way makes the same seeds of a recipe of 300 steps in a folder of its own, in an order drawn anew;
medians over the rounds are compared. `--before` is for a change to the engines.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nt_failures.experiments import command_line, script

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "recipes" / "quickstart.yaml"
FLAGS = ["--max_steps", "300", "--eval_steps", "150", "--num_train", "20000", "--num_test", "1000"]
FLAGS += ["--use_cpu", "true", "--disable_tqdm", "true"]


def main(argv: list[str]) -> None:
    """Measure and print."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="an earlier clone")
    args, extra = parser.parse_known_args(argv)
    ways = {"local": (ROOT, []), "ray": (ROOT, ["--engine", "ray"])}
    if args.before:
        ways = {"before": (args.before.absolute(), []), **ways}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    draw = random.Random(0)
    for _ in range(args.rounds):
        for way in draw.sample(list(ways), len(ways)):
            found[way].append(once(*ways[way], args, [*FLAGS, *extra]))
    print(table(found))


def once(root: Path, engine: list[str], args: argparse.Namespace, extra: list[str]) -> tuple[float, float]:
    """Seconds of the whole study, and of a run beyond its training."""
    with tempfile.TemporaryDirectory() as folder:
        words = [root / "examples" / "studies" / "reproduce.py", args.recipe.absolute(), "--output_dir", folder]
        words += ["--seeds", args.seeds, "--jobs", args.jobs, *engine, *extra]
        paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
        start = time.monotonic()
        environment = os.environ | {"PYTHONPATH": paths}
        ended = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True)
        wall = time.monotonic() - start
        if ended.returncode != 0:
            said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            raise ValueError(f"a study failed: {said[-1].removeprefix('error: ')}")
        lines = (Path(folder) / "results.jsonl").read_text(encoding="utf-8").splitlines()
    training = statistics.mean(json.loads(line)["train_seconds"] for line in lines)
    return wall, wall * args.jobs / args.seeds - training


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Markdown: a row for each way; ratios are to the first."""
    rows = ["| way | whole study, s | ratio | of a run beyond its training, s |", "| --- | --- | --- | --- |"]
    first = next(iter(found.values()))
    for way, rounds in found.items():
        wall, beyond = (statistics.median(figures) for figures in zip(*rounds, strict=True))
        ratio = statistics.median(one[0] / other[0] for one, other in zip(rounds, first, strict=True))
        spread = f"{min(rounds)[0]:.0f} to {max(rounds)[0]:.0f}"
        rows.append(f"| {way} | {wall:.0f} ({spread}) | {ratio:.2f} | {beyond:.1f} |")
    return "\n".join([*rows, "", f"{len(first)} rounds: medians (lowest to highest); load {os.getloadavg()[0]:.1f}."])


if __name__ == "__main__":
    script.run(main)
