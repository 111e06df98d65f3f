"""Measure how many seeds of a recipe are trained in a unit of time: one after another, and as processes.

    python examples/benchmarks/seeds.py                                             # on a CPU: some minutes
    python examples/benchmarks/seeds.py --processes 4 16 --rounds 5 --json FILE     # on a GPU

Each way is a set of worker processes that have built everything and wait. In every round each way trains once, in an
order drawn anew; its rate is the steps / second of all its workers, behind the first steps. Medians over the rounds
are compared, so that a load that comes and goes falls on all ways alike. Evaluations and start-up are left out.
"""

import argparse
import dataclasses
import itertools
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback, set_seed

from nt_failures.data.splits import load_splits
from nt_failures.data.tokenizer import tokenize
from nt_failures.experiments import command_line, run, script
from nt_failures.experiments.arguments import Arguments
from nt_failures.experiments.study.summary import markdown_table
from nt_failures.hub import environment
from nt_failures.hub.json_files import write_json
from nt_failures.training.trainer import ObjectiveTrainer

RECIPE = Path(__file__).parents[1] / "recipes" / "small" / "gpt2-hybrid.yaml"
WARM_UP = 3
"""Steps that are not timed: the first counts FLOPs and fills caches."""


@dataclasses.dataclass(frozen=True)
class Way:
    """How seeds are trained: so many processes at a time, each with so many threads."""

    name: str
    processes: int
    threads: int


class Clock(TrainerCallback):
    """Times the steps behind the warm-up."""

    def __init__(self) -> None:
        self.wall, self.cpu = [], []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if args.device.type == "cuda" and state.global_step in (WARM_UP, state.max_steps):
            torch.cuda.synchronize()
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def taken(self) -> dict[str, float]:
        """Seconds and CPU seconds of a step."""
        steps = len(self.wall) - WARM_UP
        return {
            "wall": (self.wall[-1] - self.wall[WARM_UP - 1]) / steps,
            "cpu": (self.cpu[-1] - self.cpu[WARM_UP - 1]) / steps,
        }


def main(argv: list[str]) -> None:
    """Measure, compare, write."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--processes", type=int, nargs="+", help="how many at a time (the cores; on a GPU at most 4)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each way in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures here, and the table beside them as Markdown")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args, extra = parser.parse_known_args(argv)
    if args.worker:
        work(args, extra)
        return
    if args.steps < 1 or args.rounds < 1 or min(args.processes or [1]) < 1:
        raise ValueError("--steps, --rounds and --processes must be at least 1.")
    device = command_line.parse([str(args.recipe), *extra]).training.device  # and errors before anything is measured
    found = measure(ways(args.processes), argv, args.rounds)
    report = {
        "recipe": args.recipe.stem,
        "extra": extra,
        "steps": args.steps,
        "hardware": environment.hardware(device) | {"cores": os.cpu_count()},
        "versions": environment.versions(),
        "ways": found,
    }
    print(table(report))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, report)
        args.json.with_suffix(".md").write_text(table(report), encoding="utf-8")


def ways(processes: list[int] | None) -> list[Way]:
    """What is compared, the base first."""
    cores = os.cpu_count() or 1
    processes = processes or [min(cores, 4) if torch.cuda.is_available() else cores]
    found = [Way("one after another", 1, 1)]
    if cores > 1 and not torch.cuda.is_available():
        found.append(Way("one after another, all cores", 1, cores))
    return found + [Way(f"{count} processes", count, 1) for count in processes]


def measure(all_ways: list[Way], argv: list[str], rounds: int) -> list[dict]:
    """Rates of every way in every round."""
    taken: dict[Way, list[list[dict]]] = {way: [] for way in all_ways}
    draw = random.Random(0)
    for _ in tqdm(range(rounds), desc="rounds"):
        workers = {way: start(way, argv) for way in draw.sample(all_ways, len(all_ways))}
        try:
            for way, started in workers.items():
                if any(worker.stdout.readline() != "ready\n" for worker in started):
                    raise ChildProcessError(f"{way.name} cannot be measured; {shlex.join(command(argv))} shows why.")
            for way, started in workers.items():
                taken[way].append(go(started))
                if not all(taken[way][-1]):
                    raise ChildProcessError(
                        f"{way.name} broke off; `go`, typed into {shlex.join(command(argv))}, shows why."
                    )
        finally:
            for worker in itertools.chain.from_iterable(workers.values()):
                worker.kill()
                worker.communicate()
    found = []
    for way, rows in taken.items():
        rates = [sum(1 / worker["wall"] for worker in row) for row in rows]
        cpu = [1000 * statistics.mean(worker["cpu"] for worker in row) for row in rows]
        found.append(dataclasses.asdict(way) | {"rates": rates, "rate": statistics.median(rates), "cpu_ms": cpu})
    for entry in found:
        pairs = zip(entry["rates"], found[0]["rates"], strict=True)
        entry["ratio"] = statistics.median(rate / base for rate, base in pairs)
    return found


def command(argv: list[str]) -> list[str]:
    """What a worker is started with."""
    return [sys.executable, __file__, *argv, "--worker"]


def start(way: Way, argv: list[str]) -> list[subprocess.Popen]:
    """The way's workers; each says when it is ready."""
    environment = os.environ | {"OMP_NUM_THREADS": str(way.threads)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    return [subprocess.Popen(command(argv), stderr=subprocess.DEVNULL, **pipes) for _ in range(way.processes)]


def go(workers: list[subprocess.Popen]) -> list[dict | None]:
    """Let a way's workers train at the same time, and read what they measured; None of one that broke off."""
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.stdout.readline() for worker in workers]
    for worker in workers:
        worker.wait()  # what it holds of the device's memory is free for the next
    return [json.loads(answer) if answer else None for answer in answers]


def work(args: argparse.Namespace, extra: list[str]) -> None:
    """In a worker: build, wait, train, say how long a step took."""
    out, sys.stdout = sys.stdout, sys.stderr  # what the Trainer prints is no answer
    flags = ["--max_steps", str(args.steps + WARM_UP), "--eval_strategy", "no", "--stop_when_solved", "0"]
    flags += ["--logging_strategy", "no", "--output_dir", "unused", "--disable_tqdm", "true", *extra]
    trainer, clock = trainer_of(command_line.parse([str(args.recipe), *flags])), Clock()
    trainer.add_callback(clock)
    print("ready", file=out, flush=True)
    sys.stdin.readline()
    trainer.train()
    print(json.dumps(clock.taken()), file=out, flush=True)


def trainer_of(args: Arguments) -> ObjectiveTrainer:
    """The Trainer of a recipe's run, which prints nothing."""
    set_seed(args.training.seed)
    tokenizer, objective = run.choose_tokenizer_and_objective(args)
    rows = load_splits(args.task, **args.data.builder_arguments())
    trainer = run.make_trainer(
        args, objective, tokenizer, {name: tokenize(part, tokenizer) for name, part in rows.items()}
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def table(report: dict) -> str:
    """Markdown: a row for each way."""
    hardware = report["hardware"]
    rows = [("way", "processes", "threads each", "steps / s", "ratio", "CPU ms / step")]
    for way in report["ways"]:
        rate = f"{way['rate']:.1f} ({min(way['rates']):.1f} to {max(way['rates']):.1f})"
        cells = way["name"], str(way["processes"]), str(way["threads"]), rate, f"{way['ratio']:.2f}"
        rows.append((*cells, f"{statistics.median(way['cpu_ms']):.0f}"))
    rounds = len(report["ways"][0]["rates"])
    return (
        f"{report['recipe']}, {hardware['device']}, {hardware['cores']} cores, {rounds} rounds of {report['steps']} "
        f"steps: median (lowest to highest); ratio: median over the rounds.\n\n{markdown_table(rows)}\n"
    )


if __name__ == "__main__":
    script.run(main)
