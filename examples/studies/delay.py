"""How long does each objective take to solve a graph, and how does that grow with its size? A map, as far as the budget reaches.

    python examples/studies/delay.py                                             # the whole map, or what is missing
    python examples/studies/delay.py --only muon deg2-path3-nodes7               # only the cells with all of these
    python examples/studies/delay.py --only_report

Runs go from the first graph of the map to the last, each until it has solved the task or its steps are spent. Stop it at
any time: finished runs are kept, and the same command goes on where it stopped.
"""

import argparse
import os
from pathlib import Path

import filelock
import reproduce
import torch

from nt_failures.diagnosis import figures
from nt_failures.experiments.study import delay, grid, results_file
from nt_failures.experiments.study import figures as study_figures
from nt_failures.experiments.study.runner import run_missing, run_script
from nt_failures.experiments.study.worker import Attempts, Job

RECIPES = Path(__file__).parent / "recipes" / "delay"
AXES = {
    "graphs": ("degree", "path_length", "num_nodes", "max_steps"),
    "objectives": grid.OBJECTIVE_KEYS,
    "optimizers": ("optimizer", "learning_rate", "muon_learning_rate"),
}


def main(argv: list[str]) -> None:
    """Run what is missing, report."""
    args = parse(argv)
    axes = grid.read_axes(args.map, AXES)
    results = args.output_dir / "results.jsonl"
    if args.only_report and not results.exists():
        raise ValueError(f"{results} holds no finished run yet; run without --only_report.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(args.output_dir / ".lock", timeout=0):
            cells = grid.write_recipes(args.recipe, axes, args.output_dir / "recipes")
            reproduce.import_named(list(cells.values()), args.extra)
            if not args.only_report:
                wanted = jobs_of(cells, axes, args)
                reproduce.check_flags(sorted({job.recipe for job in wanted}), args.extra)
                run_missing(wanted, results, Attempts(reproduce.SCRIPTS, args.output_dir), args.jobs)
            report(args, cells, next(iter(axes["objectives"])))
    except filelock.Timeout:
        raise ValueError(f"another process is working on {args.output_dir}; wait, or give another folder.") from None


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; unknown flags go to examples/train.py in every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", type=Path, default=RECIPES / "cpu.yaml", help="what all runs share (%(default)s)")
    parser.add_argument(
        "--map", type=Path, default=RECIPES / "map.yaml", help="graphs, objectives, optimizers (%(default)s)"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only cells with all of these choices")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 .. SEEDS-1 of each cell (%(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs") / "delay", help="(%(default)s)")
    at_once = 1 if torch.cuda.is_available() else max(os.cpu_count() or 1, 1)
    parser.add_argument("--jobs", type=int, default=at_once, help="runs at a time (%(default)s)")
    parser.add_argument("--only_report", action="store_true", help="make table and figure from what is there")
    args, args.extra = parser.parse_known_args(argv)
    if min(args.seeds, args.jobs) < 1:
        raise ValueError(f"--seeds {args.seeds} --jobs {args.jobs}: both must be at least 1.")
    reproduce.check_extra(args.extra, also=[key for keys in AXES.values() for key in keys])
    return args


def jobs_of(cells: dict[tuple[str, ...], Path], axes: grid.Axes, args: argparse.Namespace) -> list[Job]:
    """The runs asked for, graph by graph, within each seed by seed: the map is even wherever it ends."""
    known = {name for choices in axes.values() for name in choices}
    if unknown := sorted(set(args.only) - known):
        raise ValueError(f"--only {unknown[0]}: no such choice in {args.map}; give some of {', '.join(sorted(known))}.")
    chosen = {names: path for names, path in cells.items() if set(args.only) <= set(names)}
    return [
        Job(path, seed, tuple(args.extra))
        for graph in axes["graphs"]
        for seed in range(args.seeds)
        for names, path in chosen.items()
        if graph in names
    ]


def report(args: argparse.Namespace, cells: dict[tuple[str, ...], Path], baseline: str) -> None:
    """delay.md and delay.png from the runs of the present map."""
    forms = {(path.stem, Job(path, 0, tuple(args.extra)).fingerprint): names for names, path in cells.items()}
    results = args.output_dir / "results.jsonl"
    found = {  # a seed that stands there twice counts once
        (form, run["seed"]): delay.observe(run, *forms[form])
        for run in results_file.read_results(results)
        if (form := (run["recipe"], run["fingerprint"])) in forms
    }
    runs = list(found.values())
    if not runs:
        raise ValueError(f"{args.output_dir} holds no finished run of this map; run without --only_report.")
    text = delay.markdown(runs, baseline)
    lost = [
        f"{run['recipe']} seed {run['seed']}"
        for run in results_file.read_diverged(results)
        if (form := (run["recipe"], run["fingerprint"])) in forms and (form, run["seed"]) not in found
    ]
    if lost:
        text += f"\nDiverged, and in neither table: {', '.join(lost)}.\n"
    (args.output_dir / "delay.md").write_text(text, encoding="utf-8")
    figures.save(study_figures.delays(runs, baseline), args.output_dir / "delay.png")
    print(f"\n{text}\n{args.output_dir / 'delay.md'}, {args.output_dir / 'delay.png'}")


if __name__ == "__main__":
    run_script(main)
