"""Compare objectives under one protocol: choose each one's learning rate on validation rows, then run its seeds.

    python examples/studies/compare.py examples/recipes/compare/deg2-path4-nodes10.yaml      # five seeds of each
    python examples/studies/compare.py examples/recipes/compare/deg2-path4-nodes10.yaml --only_report
    python examples/studies/compare.py RECIPE.yaml --entries next_token token_order   # these alone
    python examples/studies/compare.py RECIPE.yaml --grid learning_rate=1e-3,2e-3 model=gpt2-4x64,gpt2-4x128   # a sweep

The recipe is what all runs share; examples/recipes/compare/objectives.yaml, or another list of that form, is all in
which they differ, beside the values of --grid: each entry of the list is run, and reported, at each point of that grid.
Each gets the same grid of learning rates and the same tuning seeds, none of which is reported. The choice looks at
validation rows alone: the most tuning seeds solved, then the earliest step, then the last accuracy. Stop it at any
time: finished runs are kept, and the same command, or one with another grid, makes what is missing.
"""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nt_failures.experiments import command_line
from nt_failures.experiments.study import cli, figures, grid, results_file
from nt_failures.experiments.study.job import Job
from nt_failures.experiments.study.results_file import Key, StudyRun
from nt_failures.experiments.study.summary import comparison_table, missing_note, summarise

OBJECTIVES = Path(__file__).parents[1] / "recipes" / "compare" / "objectives.yaml"
RATES = ("learning_rate", "muon_learning_rate")
FIRST_TUNING_SEED = 1000
"""Tuning seeds are no seeds that are reported."""


def main(argv: list[str]) -> None:
    """Tune, run, report."""
    args = parse(argv)
    axes = entries(args) | (grid.one_at_a_time(args.grid) if args.one_at_a_time else args.grid)
    folder = args.output_dir or Path("outputs") / "compare" / args.recipe.stem
    results, tuned = folder / "results.jsonl", folder / "tuning.jsonl"
    with cli.runs(args, folder) as (make, place):
        points = grid.write_recipes(args.recipe, axes, place)
        recipes = sorted(points.values())
        cli.check_runs(recipes, args.extra, vars(args))
        if not args.only_report:
            cli.check_timed(recipes, args.extra, args.grid)
        make([job for recipe in recipes for rate in args.tuned for job in tuning_jobs(recipe, rate, args)], tuned)
        chosen = choose(recipes, tuned, args)
        seeds = range(args.seeds)
        wanted = [Job(recipe, seed, flags(recipe, rate, args)) for seed in seeds for recipe, rate in chosen.items()]
        make(wanted, results)
        named = {
            path.stem: {"entry": names[0], "settings": settings(path, args.grid)} for names, path in points.items()
        }
        report(folder, chosen, wanted, named, args.title or args.recipe.stem)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; unknown flags go to every run."""
    parser = cli.parser(__doc__, seeds=5)
    parser.add_argument("recipe", type=Path, help="what all runs share, such as examples/recipes/compare/*.yaml")
    parser.add_argument("--objectives", type=Path, default=OBJECTIVES, help="what is compared (%(default)s)")
    parser.add_argument("--entries", nargs="+", metavar="NAME", help="only these of the list of --objectives")
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        help="times the recipe's learning rates, for the best on validation rows (0.5 1 2; none to a grid of rates)",
    )
    sweep = {"nargs": "+", "default": [], "metavar": "FLAG=VALUE,VALUE"}
    parser.add_argument("--grid", **sweep, help="flags of train.py, each with the values that every entry is run at")
    alone = "the recipe itself and each value of --grid alone, in place of all combinations"
    parser.add_argument("--one_at_a_time", action="store_true", help=alone)
    parser.add_argument("--tuning_seeds", type=int, default=1, help="runs of each learning rate (%(default)s)")
    parser.add_argument("--output_dir", type=Path, help="default: outputs/compare/NAME")
    parser.add_argument("--title", help="title of the figure")
    args, _ = parser.parse_known_args(argv)
    if args.one_at_a_time and not args.grid:
        raise ValueError("--one_at_a_time takes the values of --grid one by one; give a --grid.")
    swept = grid.flag_axes(args.grid, args.recipe)
    differing = (*grid.OBJECTIVE_KEYS, "optimizer", *RATES, *swept)
    args = cli.parse(parser, argv, counts=("seeds", "jobs", "tuning_seeds"), differing=differing)
    if given := {"task", *cli.sizes_of(args.recipe)} & {*command_line.flag_names(args.extra)}:
        raise ValueError(f"--{min(given)} sets options of the objectives, too; give it in the recipe, or by --grid.")
    args.grid, rates = swept, [name for name in RATES if name in swept]
    if args.rates and rates:
        raise ValueError(f"--rates would be times each {rates[0]} of --grid; leave one of the two out.")
    args.rates = args.rates or ([1.0] if rates else [0.5, 1.0, 2.0])
    if not all(0 < rate < math.inf for rate in args.rates):
        raise ValueError("give every one of --rates a finite number above 0.")
    args.tuned = args.rates if len(args.rates) > 1 else []
    return args


def entries(args: argparse.Namespace) -> grid.Axes:
    """The list of --objectives, or those of it that --entries names; ValueError for a name that it does not have."""
    axes = grid.read_axes(args.objectives, {"objectives": grid.OBJECTIVE_KEYS})
    listed = axes["objectives"]
    if unknown := [name for name in args.entries or () if name not in listed]:
        raise ValueError(f"{args.objectives} has no entry {unknown[0]!r}; it has {', '.join(listed)}.")
    return {"objectives": {name: listed[name] for name in args.entries or listed}}


def flags(recipe: Path, rate: float, args: argparse.Namespace) -> tuple[str, ...]:
    """The recipe's learning rates times `rate`; a grid of one needs none."""
    if args.rates == [1.0]:
        return tuple(args.extra)
    values = command_line.read_recipe(recipe)
    names = RATES if values.get("optimizer") == "muon" else RATES[:1]
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"{recipe} gives no {missing[0]}, which the grid is a multiple of; write it into the recipe.")
    scaled = [part for name in names for part in (f"--{name}", f"{float(values[name]) * rate:.6g}")]
    return (*scaled, *args.extra)


def tuning_jobs(recipe: Path, rate: float, args: argparse.Namespace) -> list[Job]:
    """The tuning seeds of one rate."""
    seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + args.tuning_seeds)
    return [Job(recipe, seed, flags(recipe, rate, args)) for seed in seeds]


def choose(recipes: Sequence[Path], tuning: Path, args: argparse.Namespace) -> dict[Path, float]:
    """The multiple of the learning rates that serves each recipe best on validation rows; of those that were tuned."""
    found = {key: key for key in results_file.read_diverged(tuning)}
    found |= {run.key: run for run in results_file.read_results(tuning)}
    chosen = {}
    for recipe in recipes:
        runs = {rate: [found.get(job.key) for job in tuning_jobs(recipe, rate, args)] for rate in args.tuned}
        if not any(None in ended for ended in runs.values()):
            chosen[recipe] = max(runs, key=lambda rate: _score(runs[rate])) if runs else args.rates[0]
    if not chosen:
        raise cli.NoResults(
            f"{recipes[0].stem} was not tuned with these flags and --rates; give those of the runs, or leave out "
            "--only_report."
        )
    return chosen


def _score(runs: Sequence[StudyRun | Key]) -> tuple[float, float, float]:
    """Better is larger: tuning seeds solved, minus the steps they took, last accuracy; of the validation curve."""
    ended = [run for run in runs if isinstance(run, StudyRun)]
    solved = [run.solved_at for run in ended if run.solved_at is not None]
    last = [run.curve[-1][1] if run.curve else 0.0 for run in ended]
    return len(solved), -sum(solved) / max(len(solved), 1), sum(last) / len(runs) - (len(ended) < len(runs))


def settings(recipe: Path, swept: Iterable[str]) -> dict[str, str]:
    """A recipe's value of each flag of --grid, as a table shows it."""
    values = command_line.read_recipe(recipe)
    return {flag: grid.shown(values.get(flag)) for flag in swept}


def report(
    folder: Path, chosen: Mapping[Path, float], wanted: Sequence[Job], named: Mapping[str, Mapping], title: str
) -> None:
    """comparison.md and comparison.png of these runs: who solves the task how often, how soon, at what cost.

    `named` are the `entry` and the `settings` of the recipes, by the stems of their files.
    """
    runs, diverged = cli.finished(folder / "results.jsonl", wanted)
    rates = {recipe.stem: rate for recipe, rate in chosen.items()}
    groups = [{**group, "rate": rates[group["name"]], **named[group["name"]]} for group in summarise(runs, diverged)]
    table = comparison_table(groups) + missing_note(named, groups)
    points = [" ".join([g["entry"], *(f"{flag}={value}" for flag, value in g["settings"].items())]) for g in groups]
    drawn = [{**group, "name": point} for group, point in zip(groups, points, strict=True)]
    figure = figures.time_to_solve(drawn, title)
    cli.write_report(folder / "comparison.md", table, folder / "comparison.png", figure)


if __name__ == "__main__":
    cli.run_script(main)
