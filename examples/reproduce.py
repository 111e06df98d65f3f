"""Run recipes x seeds, append every finished run to results.jsonl, and make the table and the figure.

    python examples/reproduce.py examples/recipes/small                      # all of it, or what is still missing
    python examples/reproduce.py examples/recipes/small --seeds 5            # two more seeds of each
    python examples/reproduce.py examples/recipes/quickstart.yaml --only_report
    python examples/reproduce.py examples/recipes/hybrid.yaml --seeds 32 --together 32     # on a GPU: all in one process

Stop it at any time: finished runs are kept, and the same command goes on where it stopped.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock
import torch
import yaml
from tqdm.auto import tqdm

from nt_failures import arguments, figures, finder, lifeline, study

TRAIN = Path(__file__).parent / "train.py"
TRAIN_SEEDS = Path(__file__).parent / "train_seeds.py"
ATTEMPT = "attempt-"


def main(argv: list[str]) -> None:
    """Parse, run what is missing, report."""
    args = parse(argv)
    recipes = sorted(args.recipes.glob("*.yaml")) if args.recipes.is_dir() else [args.recipes]
    if not recipes or not all(recipe.is_file() for recipe in recipes):
        raise ValueError(f"{args.recipes} is neither a recipe nor a folder with *.yaml recipes; see examples/recipes.")
    folder = args.output_dir or Path("outputs") / "studies" / args.recipes.stem
    results = folder / "results.jsonl"
    wanted = [Job(recipe, seed, tuple(args.extra)) for seed in range(args.seeds) for recipe in recipes]
    if args.only_report and not results.exists():
        raise ValueError(f"{results} holds no finished run yet; run without --only_report.")
    import_named(recipes, args.extra)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            if not args.only_report:
                arguments.parse(args.extra)  # a wrong flag fails here, not in the first run
                clear_attempts(folder)
                run_missing(wanted, results, folder, args.jobs, args.keep_models, args.together)
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
    jobs = 1 if torch.cuda.is_available() else max(os.cpu_count() or 1, 1)
    parser.add_argument("--jobs", type=int, default=jobs, help="runs at a time, one thread each on a CPU (%(default)s)")
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


def clear_attempts(folder: Path) -> None:
    """Remove what a killed study left behind."""
    for left in folder.glob(f"{ATTEMPT}*"):
        shutil.rmtree(left)


@dataclasses.dataclass(frozen=True)
class Job:
    """One run that is to be made: a recipe, a seed, and flags for examples/train.py."""

    recipe: Path
    seed: int
    extra: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Changes with the recipe's values and the extra flags, not with its comments: a changed recipe is a new run."""
        values = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        return hashlib.sha256(json.dumps([values, list(self.extra)], sort_keys=True).encode()).hexdigest()[:12]


def run_missing(
    wanted: Sequence[Job], results: Path, folder: Path, at_once: int, keep_models: bool = False, together: int = 1
) -> None:
    """Every run that results.jsonl does not hold yet, `together` seeds of a recipe in each process.

    A recipe that fails is given up, the others go on; then it is said. When stopped, what is finished is kept.
    """
    done = {(record["recipe"], record["seed"], record["fingerprint"]) for record in study.read_results(results)}
    todo = [job for job in wanted if (job.recipe.stem, job.seed, job.fingerprint) not in done]
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc="runs", unit="run")
    failures: dict[Path, Exception] = {}

    def attempt(jobs: Sequence[Job]) -> list[dict]:
        recipe = jobs[0].recipe
        try:
            if recipe in failures:
                return []
            if len(jobs) == 1:
                return [run_one(jobs[0], folder, keep_models)]
            records, error = run_together(jobs, folder, keep_models)
            if error is not None:
                failures.setdefault(recipe, error)
            return records
        except Exception as error:  # said below, once the other runs are finished and written
            failures.setdefault(recipe, error)
            return []

    def write(records: Sequence[dict]) -> None:
        for record in records:
            study.append_result(results, record)
            bar.set_postfix_str(f"{record['recipe']} seed {record['seed']}: {record['metrics']['free/exact']:.3f}")
            bar.update()

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting = {pool.submit(attempt, jobs) for jobs in in_groups(todo, together)}
        try:
            for future in concurrent.futures.as_completed(set(waiting)):
                waiting.discard(future)
                write(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            CHILDREN.stop()
            for future in waiting:
                if not future.cancelled():
                    write(future.result())
            raise
        finally:
            bar.close()
    if failures:
        raise RuntimeError("; ".join(str(error) for error in failures.values()))


def in_groups(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Seeds of one recipe under the same flags, at most `size` in a group; in the order of the groups' first jobs."""
    groups: list[list[Job]] = []
    filling: dict[tuple, list[Job]] = {}
    for job in jobs:
        group = filling.get((job.recipe, job.extra))
        if group is None or len(group) == size:
            group = filling[job.recipe, job.extra] = []
            groups.append(group)
        group.append(job)
    return groups


def run_one(job: Job, folder: Path, keep_models: bool) -> dict:
    """One run in a process of its own, in a folder of its own; a killed attempt leaves nothing in another's way."""
    name = f"{job.recipe.stem}-seed{job.seed}"
    work, (job,) = claim([job], folder, name)
    code, failure = call([TRAIN, job.recipe, "--seed", job.seed, "--output_dir", work / "run", *job.extra], work)
    if code != 0:
        raise RuntimeError(f"{job.recipe.stem}, seed {job.seed} failed with exit code {code}: {failure}")
    record = record_of(job, work / "run")
    if keep_models:
        work.rename(folder / f"{name}-{job.fingerprint}")
    else:
        shutil.rmtree(work)
    return record


def run_together(jobs: Sequence[Job], folder: Path, keep_models: bool) -> tuple[list[dict], RuntimeError | None]:
    """Seeds of one recipe in one process: the records of those that finished, and what is to be said of the others."""
    name, seeds = jobs[0].recipe.stem, [job.seed for job in jobs]
    work, jobs = claim(jobs, folder, f"{name}-seeds{seeds[0]}to{seeds[-1]}")
    flags = ["--seeds", *seeds, "--output_dir", work / "runs", *jobs[0].extra]
    code, failure = call([TRAIN_SEEDS, jobs[0].recipe, *flags], work)
    finished = [job for job in jobs if (work / "runs" / f"seed{job.seed}" / "results.json").exists()]
    records = [record_of(job, work / "runs" / f"seed{job.seed}") for job in finished]
    if keep_models:
        for job in finished:
            kept = folder / f"{name}-seed{job.seed}-{job.fingerprint}"
            kept.mkdir()
            (work / "runs" / f"seed{job.seed}").rename(kept / "run")
    if code != 0:
        return records, RuntimeError(f"{name}, seeds {seeds} ended with exit code {code}: {failure}")
    shutil.rmtree(work)
    return records, None


def claim(jobs: Sequence[Job], folder: Path, name: str) -> tuple[Path, list[Job]]:
    """A folder for an attempt, and the jobs with a copy of their recipe: what is recorded is what is trained."""
    work = Path(tempfile.mkdtemp(prefix=f"{ATTEMPT}{name}-", dir=folder))
    copy = Path(shutil.copy(jobs[0].recipe, work))
    return work, [dataclasses.replace(job, recipe=copy) for job in jobs]


def call(command: Sequence[object], work: Path) -> tuple[int, str]:
    """Run a script in a process of its own, on one thread where there is no GPU; exit code, last line and log."""
    environment = os.environ if torch.cuda.is_available() else {**os.environ, "OMP_NUM_THREADS": "1"}
    log = work / "log.txt"
    words = [sys.executable, *map(str, command)]
    with open(log, "w", encoding="utf-8") as file:
        code = CHILDREN.call(words, stdout=file, stderr=subprocess.STDOUT, env=environment)
    return code, f"{' '.join(log.read_text(encoding='utf-8').splitlines()[-1:])} (log: {log})"


def record_of(job: Job, run: Path) -> dict:
    """The line of results.jsonl for a finished run."""
    found = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return {"recipe": job.recipe.stem, "seed": job.seed, "fingerprint": job.fingerprint, **found}


def import_named(recipes: list[Path], extra: list[str]) -> None:
    """Import the classes of the user's own that recipes or flags name: reading results.jsonl imports none."""
    asked = arguments.peek(extra, "objective")
    for recipe in recipes:
        name = asked or arguments.read_recipe(recipe).get("objective")
        if "." in str(name):
            finder.find("objectives", str(name))


def report(results: Path, folder: Path, title: str, forms: dict[str, str]) -> None:
    """table.md and figure.png from results.jsonl; of a recipe that was changed, the runs of its present form if any."""
    records = study.read_results(results)
    if not records:
        raise ValueError(f"{results} holds no finished run yet; run without --only_report.")
    groups = study.summarise(records, forms)
    table = study.markdown_table(groups)
    (folder / "table.md").write_text(table, encoding="utf-8")
    figures.save(figures.side_by_side(groups, title), folder / "figure.png")
    print(f"\n{table}\n{folder / 'table.md'}, {folder / 'figure.png'}")


class Children:
    """The trainings under way, so that none outlives a study that is stopped; one that is killed takes them along."""

    def __init__(self) -> None:
        self.lock, self.running, self.stopped = threading.Lock(), set(), False

    def call(self, command: list[str], **options: Any) -> int:
        """Like subprocess.call."""
        with self.lock:
            if self.stopped:
                return -signal.SIGTERM
            process = lifeline.start(command, **options)
            self.running.add(process)
        try:
            return process.wait()
        finally:
            self.running.discard(process)
            process.stdin.close()

    def stop(self) -> None:
        """Ask those that run to end, and start no others."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


CHILDREN = Children()


def interrupt(*_: object) -> None:
    """SIGTERM, a cluster's or the shell's, ends a study as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    try:
        main(sys.argv[1:])
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; finished runs are in results.jsonl, the same command goes on from there")
