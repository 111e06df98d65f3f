"""How long a run of each recipe takes on one core: seconds a step and an evaluation, before a study is started.

    python examples/benchmarks/budget.py                                  # the recipes for a CPU
    python examples/benchmarks/budget.py RECIPE.yaml FOLDER --json FILE   # others; FILE's Markdown is written beside it

CPU seconds of one thread, which other work on the machine changes less than the clock. The start of a run and its final
test are left out.
"""

import math
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and NumPy count the cores

import torch
from datasets import disable_progress_bars
from seeds import WARM_UP, Clock, trainer_of
from tqdm.auto import tqdm

from nt_failures.experiments import command_line
from nt_failures.experiments.run_arguments import RunArguments
from nt_failures.experiments.script import run
from nt_failures.experiments.study.summary import markdown_table
from nt_failures.hub import environment
from nt_failures.hub.json_files import write_json

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
FOR_CPU = [RECIPES / name for name in ("quickstart.yaml", "memorised.yaml", "delayed.yaml", "small", "tasks")]


def main(argv: list[str]) -> None:
    """Measure each recipe, show and write the table."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("recipes", type=Path, nargs="*", default=FOR_CPU, help="recipes, and folders of them")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    if args.steps < 1 or (args.json and args.json.is_dir()):
        raise ValueError("--steps must be at least 1, and --json the name of a file.")
    paths = dict.fromkeys(path for given in args.recipes for path in recipes_in(given))
    wholes = {path: whole_run(path) for path in paths}  # errors before anything is measured
    found, failed = [], []
    for path, whole in tqdm(wholes.items(), unit="recipe"):
        try:
            found.append(measure(path, whole, args.steps))
        except (ValueError, OSError) as error:
            failed.append(f"{path}: {error}")
    machine = environment.hardware(torch.device("cpu"))
    report = {"hardware": machine, "versions": environment.versions(), "recipes": found}
    text = table(found)
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, report)
        args.json.with_suffix(".md").write_text(text, encoding="utf-8")
    if failed:
        raise ValueError("; ".join(failed))


def recipes_in(given: Path) -> list[Path]:
    """A recipe, or those of a folder, without the lists of objectives there; ValueError for one that has none."""
    found = [given] if given.is_file() else sorted(given.rglob("*.yaml"))
    if given.is_dir():
        found = [
            path for path in found if not all(isinstance(v, dict) for v in command_line.read_recipe(path).values())
        ]
    if not found:
        raise ValueError(f"{given} is neither a recipe nor a folder with *.yaml recipes; see examples/recipes.")
    return found


def whole_run(recipe: Path) -> RunArguments:
    """The training that the recipe asks for; ValueError unless its steps and evaluations are given as numbers, and its
    rows are of one length throughout."""
    training = command_line.parse([str(recipe), "--use_cpu"]).training
    if training.curriculum:
        raise ValueError(f"{recipe} has a curriculum, whose steps grow longer: a few do not tell of the rest.")
    if training.max_steps < 1 or training.eval_strategy == "epoch":
        raise ValueError(f"{recipe} counts in epochs, whose steps are not known before its rows; give it max_steps.")
    return training


def measure(recipe: Path, whole: RunArguments, steps: int) -> dict[str, float | str]:
    """CPU seconds of a step and of an evaluation, and of all of them in a whole run."""
    flags = f"--use_cpu --max_steps {steps + WARM_UP} --eval_strategy no --logging_strategy no --save_strategy no"
    flags += " --report_to none --disable_tqdm true --stop_when_solved 0"
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        args = command_line.parse([str(recipe), *flags.split(), "--output_dir", folder])
        trainer = trainer_of(args)
        trainer.add_callback(clock)
        trainer.train()
        start = time.process_time()
        trainer.evaluate()
        evaluation = time.process_time() - start
    step = clock.taken()["cpu"]
    count = 0
    if whole.eval_strategy == "steps":  # a fraction is one of all steps
        every = whole.eval_steps if whole.eval_steps >= 1 else math.ceil(whole.eval_steps * whole.max_steps)
        count = int(whole.max_steps // every)
    return {
        "recipe": str(path.relative_to(RECIPES) if (path := recipe.resolve()).is_relative_to(RECIPES) else recipe),
        "steps": whole.max_steps,
        "step": step,
        "evaluations": count,
        "evaluation": evaluation,
        "all": whole.max_steps * step + count * evaluation,
    }


def table(found: list[dict]) -> str:
    """Markdown: a row for each recipe."""
    rows = [("recipe", "steps", "ms a step", "evaluations", "s an evaluation", "minutes in all")]
    for row in found:
        cells = f"`{row['recipe']}`", f"{row['steps']:,}", f"{1000 * row['step']:.0f}", str(row["evaluations"])
        rows.append((*cells, f"{row['evaluation']:.1f}", f"{row['all'] / 60:.1f}"))
    note = "CPU time of one thread; all steps, without the start, the final test and an early stop.\n"
    return f"{markdown_table(rows)}\n\n{note}"


if __name__ == "__main__":
    disable_progress_bars()
    run(main)
