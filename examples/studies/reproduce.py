"""Run recipes x seeds, append every finished run to results.jsonl, and make the table and the figure.

    python examples/studies/reproduce.py examples/recipes/small                      # all of it, or what is missing
    python examples/studies/reproduce.py examples/recipes/small --seeds 5            # two more seeds of each
    python examples/studies/reproduce.py examples/recipes/quickstart.yaml --only_report

Stop it at any time: finished runs are kept, and the same command goes on where it stopped.
"""

import argparse
from pathlib import Path

from nt_failures.diagnosis.figures import save
from nt_failures.experiments.study import cli, figures
from nt_failures.experiments.study.job import Job
from nt_failures.experiments.study.summary import (
    difficulty_tables,
    missing_note,
    shared_difficulties,
    study_table,
    summarise,
)


def main(argv: list[str]) -> None:
    """Parse, run what is missing, report."""
    args = parse(argv)
    recipes = sorted(args.recipes.glob("*.yaml")) if args.recipes.is_dir() else [args.recipes]
    if not recipes or not all(recipe.is_file() for recipe in recipes):
        raise ValueError(f"{args.recipes} is neither a recipe nor a folder with *.yaml recipes; see examples/recipes.")
    folder = args.output_dir or Path("outputs") / "studies" / args.recipes.stem
    results = folder / "results.jsonl"
    cli.check_runs(recipes, args.extra, vars(args))
    wanted = [Job(recipe, seed, tuple(args.extra)) for seed in range(args.seeds) for recipe in recipes]
    with cli.runs(args, folder) as (make, _):
        make(wanted, results)
        report(results, folder, args.title or args.recipes.stem, wanted)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__, seeds=3)
    parser.add_argument("recipes", type=Path, help="a recipe, or a folder of them")
    parser.add_argument("--output_dir", type=Path, help="default: outputs/studies/NAME")
    parser.add_argument("--title", help="title of the figure")
    return cli.parse(parser, argv)


def report(results: Path, folder: Path, title: str, wanted: list[Job]) -> None:
    """table.md and figure.png of the runs of these recipes, as they are now, in results.jsonl.

    Where the sizes of problems differ from row to row, by_SIZE.png, too.
    """
    runs, diverged = cli.finished(results, wanted)
    groups = summarise(runs, diverged)
    table = study_table(groups) + difficulty_tables(groups) + missing_note((job.recipe.stem for job in wanted), groups)
    for name in shared_difficulties(groups):
        save(figures.by_difficulty(groups, name, title), folder / f"by_{name}.png")
    cli.write_report(folder / "table.md", table, folder / "figure.png", figures.side_by_side(groups, title))


if __name__ == "__main__":
    cli.run_script(main)
