"""What the command lines of all studies share: flags, the runs, the report, the script's end."""

import argparse
import contextlib
import dataclasses
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from nt_failures.diagnosis import figures
from nt_failures.experiments import command_line, output_dir, script
from nt_failures.experiments.arguments import DataArguments
from nt_failures.experiments.study import engine
from nt_failures.experiments.study.job import Job, Key
from nt_failures.experiments.study.results_file import StudyRun, diverged_file, read_study
from nt_failures.experiments.study.runner import FAILED, run_missing
from nt_failures.objectives import find_objective
from nt_failures.tasks import find_task


def parser(description: str, seeds: int) -> argparse.ArgumentParser:
    """A parser with `--seeds`, `--only_report` and the flags of an engine; `seeds` is the default number of seeds."""
    made = command_line.plain_parser(description)
    made.add_argument("--seeds", type=int, default=seeds, help="seeds 0 .. SEEDS-1 of each recipe (%(default)s)")
    engine.add_flags(made)
    made.add_argument("--only_report", action="store_true", help="make table and figure from what is there")
    return made


def parse(
    study_parser: argparse.ArgumentParser,
    argv: Sequence[str],
    counts: Sequence[str] = ("seeds", "jobs"),
    differing: Sequence[str] = (),
) -> argparse.Namespace:
    """The study's flags, of which `counts` must be at least 1; all others go to every run, as `extra`.

    `differing` are flags in which the runs differ, which `extra` may not set.
    """
    args, extra = study_parser.parse_known_args(argv)
    own = {*vars(args)}
    args.extra = extra
    given = {name: vars(args)[name] for name in counts if vars(args)[name] is not None}
    if few := [f"--{name} {value}" for name, value in given.items() if value < 1]:
        raise ValueError(f"{few[0]} must be at least 1.")
    engine.check_flags(args)
    for name in command_line.flag_names(args.extra):
        if name in own:
            raise ValueError(f"--{name.replace('_', '-')} is the study's own; write it with underscores, --{name}.")
        if name == "seed":
            raise ValueError("--seed is set for each run; say with --seeds how many there are to be.")
        if name in differing:
            raise ValueError(f"--{name} is what the runs differ in; change it where they are listed.")
    return args


def sizes_of(recipe: Path) -> list[str]:
    """The flags that are sizes of the recipe's task, or of the default one."""
    task = find_task(str(command_line.read_recipe(recipe).get("task", DataArguments.task)))
    return [field.name for field in dataclasses.fields(task)]


def check_runs(recipes: Sequence[Path], extra: Sequence[str], own: Iterable[str]) -> None:
    """Import the classes of the user's own that recipes or flags name: files import none.

    ValueError for a flag of the command line that neither runs nor the study, whose flags are `own`, know.
    """
    for kind, find in (("objective", find_objective), ("task", find_task)):
        asked = command_line.peek(extra, kind)
        for recipe in recipes:
            name = asked or command_line.read_recipe(recipe).get(kind)
            if "." in str(name):
                find(str(name))
    for recipe in recipes:
        command_line.check_names(recipe, extra, [*own])


def check_timed(recipes: Iterable[Path], extra: Sequence[str], swept: Iterable[str] = ()) -> None:
    """Names, options and overrides that a run would refuse are refused before the first, as is one without evaluations.

    Rates are chosen, and times told, by what these show. So is a flag that is `swept` and would change nothing: its
    rows would be of the same runs. ValueError; OSError for a model that is out of reach.
    """
    from nt_failures.experiments.run import choose_tokenizer_and_objective  # imports torch

    for recipe in recipes:
        args = command_line.parse([str(recipe), *extra])
        choose_tokenizer_and_objective(args)
        training = args.training
        command_line.check_idle(swept, training)
        if training.eval_strategy == "no" or 0 < training.max_steps < (training.eval_steps or 1):
            raise ValueError(
                f"{recipe} evaluates nothing on the way; give --eval_strategy steps and --eval_steps below max_steps."
            )


class NoResults(ValueError):
    """There is nothing to report."""


def _no_results(results: Path, diverged: Sequence[Key] = ()) -> NoResults:
    """The error of a report on nothing, or on diverged runs alone."""
    if diverged:
        return NoResults(f"every run diverged, as {diverged_file(results)} says; change the recipe.")
    return NoResults(f"{results} holds no finished run of these recipes with these flags; run without --only_report.")


def finished(results: Path, jobs: Iterable[Job]) -> tuple[list[StudyRun], list[Key]]:
    """The finished and the diverged runs of these jobs' recipes as they are now; `NoResults` if none has finished."""
    found, diverged = read_study(results, {job.recipe.stem: job.fingerprint for job in jobs})
    if not found:
        raise _no_results(results, diverged)
    return found, diverged


@contextlib.contextmanager
def runs(args: argparse.Namespace, folder: Path) -> Iterator[tuple[Callable[[Sequence[Job], Path], None], Path]]:
    """Lock the study's folder; yields what makes the runs that a file of results lacks, and the folder of recipes.

    With --only_report it makes none, and there is no lock, as another process may be at work: recipes then go to a
    folder that is removed. What fails is said at the end, as a ChildProcessError: the others are run first, and the
    report is made of them.
    """
    if args.only_report and not folder.is_dir():
        raise _no_results(folder / "results.jsonl")
    failures = []

    def make(wanted: Sequence[Job], results: Path) -> None:
        if on is not None:
            try:
                run_missing(wanted, results, on)
            except ChildProcessError as error:
                failures.append(str(error))

    try:
        with contextlib.ExitStack() as until_the_end:
            if args.only_report:
                on, recipes = None, Path(until_the_end.enter_context(tempfile.TemporaryDirectory()))
            else:
                until_the_end.enter_context(output_dir.locked(folder))
                on, recipes = until_the_end.enter_context(engine.of(args, folder)), folder / "recipes"
                shutil.rmtree(folder / FAILED, ignore_errors=True)
            yield make, recipes
    except NoResults:  # all has failed
        if not failures:
            raise
    if failures:
        raise ChildProcessError("; ".join(failures))


def write_report(page: Path, text: str, picture: Path, figure: Figure) -> None:
    """Write the tables and the figure of a study, and show the tables."""
    page.write_text(text, encoding="utf-8")
    figures.save(figure, picture)
    sys.stdout.write(f"\n{text}\n{page}, {picture}\n")


def run_script(main: Callable[[list[str]], None]) -> None:
    """Run a study's script: SIGTERM, a cluster's or the shell's, ends it as Ctrl-C does, and errors are one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    script.run(main, "\nstopped; finished runs are kept, and the same command goes on from there")
