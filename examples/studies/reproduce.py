"""Run recipes x seeds, append every finished run to results.jsonl, and make the table and the figure.

    python examples/studies/reproduce.py examples/recipes/small                      # all of it, or what is still missing
    python examples/studies/reproduce.py examples/recipes/small --seeds 5            # two more seeds of each
    python examples/studies/reproduce.py examples/recipes/quickstart.yaml --only_report
    python examples/studies/reproduce.py examples/recipes/hybrid.yaml --seeds 32 --together 32     # on a GPU: all in one process

Stop it at any time: finished runs are kept, and the same command goes on where it stopped.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import filelock
import torch

from nt_failures.diagnosis import figures
from nt_failures.experiments import command_line
from nt_failures.experiments.study import figures as study_figures
from nt_failures.experiments.study import results_file
from nt_failures.experiments.study.runner import run_missing, run_script
from nt_failures.experiments.study.summary import earlier_note, markdown_table, missing_note, summarise
from nt_failures.experiments.study.worker import Attempts, Job
from nt_failures.objectives import find_objective

SCRIPTS = Path(__file__).parent


def main(argv: list[str]) -> None:
    """Parse, run what is missing, report."""
    args = parse(argv)
    recipes = sorted(args.recipes.glob("*.yaml")) if args.recipes.is_dir() else [args.recipes]
    if not recipes or not all(recipe.is_file() for recipe in recipes):
        raise ValueError(f"{args.recipes} is neither a recipe nor a folder with *.yaml recipes; see examples/recipes.")
    folder = args.output_dir or Path("outputs") / "studies" / args.recipes.stem
    results = folder / "results.jsonl"
    wanted = [Job(recipe, seed, tuple(args.extra)) for seed in range(args.seeds) for recipe in recipes]
    if args.only_report and not folder.is_dir():
        raise ValueError(f"{results} holds no finished run yet; run without --only_report.")
    import_named(recipes, args.extra)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            check_flags(recipes, args.extra)
            if not args.only_report:
                attempts = Attempts(SCRIPTS, folder, args.keep_models)
                run_missing(wanted, results, attempts, args.jobs, args.together)
            forms = {job.recipe.stem: job.fingerprint for job in wanted}
            report(results, folder, args.title or args.recipes.stem, forms)
    except filelock.Timeout:
        raise ValueError(
            f"another process is working on {folder}; wait for it, or give another --output_dir."
        ) from None


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipes", type=Path, help="a recipe, or a folder of them")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 .. SEEDS-1 of each recipe")
    parser.add_argument("--output_dir", type=Path, help="default: outputs/studies/NAME")
    at_once = 1 if torch.cuda.is_available() else max(os.cpu_count() or 1, 1)
    parser.add_argument(
        "--jobs", type=int, default=at_once, help="runs at a time, one thread each on a CPU (%(default)s)"
    )
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        help="seeds of a recipe that one process trains at once; for a GPU (%(default)s)",
    )
    parser.add_argument("--title", help="title of the figure")
    parser.add_argument("--only_report", action="store_true", help="make table and figure from what is there")
    parser.add_argument("--keep_models", action="store_true", help="keep each run's folder with its model")
    args, args.extra = parser.parse_known_args(argv)
    if min(args.seeds, args.jobs, args.together) < 1:
        raise ValueError(f"--seeds {args.seeds} --jobs {args.jobs} --together {args.together}: all must be at least 1.")
    check_extra(args.extra)
    return args


def check_extra(extra: Sequence[str], also: Sequence[str] = ()) -> None:
    """Refuse flags that would make every run the same one, and those of `also`, which a grid sets."""
    given = {flag.split("=")[0].lstrip("-").replace("-", "_") for flag in extra if flag.startswith("--")}
    if given & {"seed", "output_dir"}:
        raise ValueError("--seed is set for each run; say with --seeds how many there are to be.")
    if both := sorted(given & set(also)):
        raise ValueError(f"--{both[0]} is what the runs differ in; change it in the file that lists them.")


def check_flags(recipes: Sequence[Path], extra: Sequence[str]) -> None:
    """ValueError for a flag that is wrong beside one of the recipes: it fails here, not in that recipe's first run."""
    for recipe in recipes if extra else ():
        try:
            command_line.parse([str(recipe), *extra])
        except ValueError as error:
            raise ValueError(f"{recipe.name}: {error}") from error


def import_named(recipes: list[Path], extra: list[str]) -> None:
    """Import the classes of the user's own that recipes or flags name: reading results.jsonl imports none."""
    asked = command_line.peek(extra, "objective")
    for recipe in recipes:
        name = asked or command_line.read_recipe(recipe).get("objective")
        if "." in str(name):
            find_objective(str(name))


def report(results: Path, folder: Path, title: str, forms: dict[str, str]) -> None:
    """table.md and figure.png from results.jsonl; of a recipe that was changed, the runs of its present form if any."""
    records, diverged = results_file.read_results(results), results_file.read_diverged(results)
    groups = summarise(records, forms, diverged)
    if not groups and diverged:
        raise ValueError(f"every run diverged, as {results_file.diverged_file(results)} says; change the recipe.")
    if not groups:
        raise ValueError(f"{results} holds no finished run yet; run without --only_report.")
    table = markdown_table(groups) + missing_note(forms, groups) + earlier_note(groups)
    (folder / "table.md").write_text(table, encoding="utf-8")
    figures.save(study_figures.side_by_side(groups, title), folder / "figure.png")
    print(f"\n{table}\n{folder / 'table.md'}, {folder / 'figure.png'}")


if __name__ == "__main__":
    run_script(main)
