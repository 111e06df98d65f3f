"""How long does each objective take to solve a problem, and how does that grow with the problem's size?

    python examples/studies/delay.py                                     # the whole map, or what is missing
    python examples/studies/delay.py --only muon deg2-path3-nodes7       # only the cells with all of these
    python examples/studies/delay.py --only_report

    python examples/studies/delay.py --recipe examples/recipes/tasks/addition.yaml --map my_map.yaml     # any task

Runs go from the first problem of the map to the last, each until it has solved the task or its steps are spent. Stop it
at any time: finished runs are kept, and the same command goes on where it stopped.
"""

import argparse
from pathlib import Path

from nt_failures import registry
from nt_failures.experiments.study import cli, delay, figures, grid
from nt_failures.experiments.study.job import Job

RECIPES = Path(__file__).parents[1] / "recipes" / "delay"
OPTIMIZER_KEYS = ("optimizer", "learning_rate", "muon_learning_rate")


def main(argv: list[str]) -> None:
    """Run what is missing, report."""
    args = parse(argv)
    axes = grid.read_axes(args.map, args.axes)
    with cli.runs(args, args.output_dir) as (make, place):
        cells = grid.write_recipes(args.recipe, axes, place)
        cli.check_runs(list(cells.values()), args.extra, vars(args))
        jobs = jobs_of(cells, axes, args)
        if not args.only_report:
            cli.check_timed({job.recipe for job in jobs}, args.extra)
        make(jobs, args.output_dir / "results.jsonl")
        report(args, cells, next(iter(axes["objectives"])))


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; unknown flags go to every run."""
    parser = cli.parser(__doc__, seeds=3)
    parser.add_argument("--recipe", type=Path, default=RECIPES / "cpu.yaml", help="what all runs share (%(default)s)")
    parser.add_argument(
        "--map", type=Path, default=RECIPES / "map.yaml", help="problems, objectives, optimizers (%(default)s)"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only cells with all of these choices")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs") / "delay", help="(%(default)s)")
    axes = axes_of(parser.parse_known_args(argv)[0].recipe)
    args = cli.parse(parser, argv, differing=["task", *(key for keys in axes.values() for key in keys)])
    args.axes = axes
    return args


def axes_of(recipe: Path) -> dict[str, tuple[str, ...]]:
    """What the choices of a map may set: the sizes of the recipe's task, what is trained, and by which optimizer."""
    return {
        "problems": (*cli.sizes_of(recipe), "max_steps"),
        "objectives": grid.OBJECTIVE_KEYS,
        "optimizers": OPTIMIZER_KEYS,
    }


def jobs_of(cells: dict[tuple[str, ...], Path], axes: grid.Axes, args: argparse.Namespace) -> list[Job]:
    """The runs asked for, problem by problem, within each seed by seed: the map is even wherever it ends."""
    known = {name for choices in axes.values() for name in choices}
    registry.check_names(f"--only: {args.map} has no choice", args.only, sorted(known))
    chosen = {names: path for names, path in cells.items() if set(args.only) <= set(names)}
    return [
        Job(path, seed, tuple(args.extra))
        for problem in axes["problems"]
        for seed in range(args.seeds)
        for names, path in chosen.items()
        if problem in names
    ]


def report(args: argparse.Namespace, cells: dict[tuple[str, ...], Path], baseline: str) -> None:
    """delay.md and delay.png from the runs of the present map."""
    folder = args.output_dir
    names = {path.stem: choices for choices, path in cells.items()}
    jobs = [Job(path, 0, tuple(args.extra)) for path in cells.values()]
    found, diverged = cli.finished(folder / "results.jsonl", jobs)
    runs = [delay.observe(run, *names[run.key.recipe]) for run in found]
    text = delay.markdown(runs, baseline)
    lost = [f"{key.recipe} seed {key.seed}" for key in diverged]
    if lost:
        text += f"\nDiverged, and in neither table: {', '.join(lost)}.\n"
    cli.write_report(folder / "delay.md", text, folder / "delay.png", figures.delays(runs, baseline))


if __name__ == "__main__":
    cli.run_script(main)
