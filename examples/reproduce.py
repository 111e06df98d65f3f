"""Run recipes x seeds, append every finished run to results.jsonl, and make the table and the figure.

    python examples/reproduce.py examples/recipes/small                      # all of it, or what is still missing
    python examples/reproduce.py examples/recipes/small --seeds 5            # two more seeds of each
    python examples/reproduce.py examples/recipes/quickstart.yaml --only_report

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
                run_missing(wanted, results, folder, args.jobs, args.keep_models)
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
    parser.add_argument("--title", help="title of the figure")
    parser.add_argument("--only_report", action="store_true", help="make table and figure from what is there")
    parser.add_argument("--keep_models", action="store_true", help="keep each run's folder with its model")
    args, args.extra = parser.parse_known_args(argv)
    if args.seeds < 1 or args.jobs < 1:
        raise ValueError(f"--seeds {args.seeds} --jobs {args.jobs}: both must be at least 1.")
    check_extra(args.extra)
    return args


def check_extra(extra: Sequence[str]) -> None:
    """Refuse flags that would make every run the same one."""
    if any(flag.split("=")[0] in ("--seed", "--output_dir") for flag in extra):
        raise ValueError("--seed is set for each run; say with --seeds how many there are to be.")


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


def run_missing(wanted: Sequence[Job], results: Path, folder: Path, at_once: int, keep_models: bool = False) -> None:
    """Every run that results.jsonl does not hold yet. A recipe that fails is given up, the others go on; then it is said."""
    done = {(record["recipe"], record["seed"], record["fingerprint"]) for record in study.read_results(results)}
    todo = [job for job in wanted if (job.recipe.stem, job.seed, job.fingerprint) not in done]
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc="runs", unit="run")
    failures: dict[Path, Exception] = {}

    def attempt(job: Job) -> dict | None:
        try:
            return None if job.recipe in failures else run_one(job, folder, keep_models)
        except Exception as error:  # said below, once the other runs are finished and written
            failures.setdefault(job.recipe, error)
            return None

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(attempt, job) for job in todo]
        try:
            for future in concurrent.futures.as_completed(futures):
                record = future.result()
                if record is None:
                    continue
                study.append_result(results, record)
                bar.set_postfix_str(f"{record['recipe']} seed {record['seed']}: {record['metrics']['free/exact']:.3f}")
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            CHILDREN.stop()
            raise
        finally:
            bar.close()
    if failures:
        raise RuntimeError("; ".join(str(error) for error in failures.values()))


def run_one(job: Job, folder: Path, keep_models: bool) -> dict:
    """One run in a process of its own, in a folder of its own; a killed attempt leaves nothing in another's way."""
    name = job.recipe.stem
    work = Path(tempfile.mkdtemp(prefix=f"{ATTEMPT}{name}-seed{job.seed}-", dir=folder))
    # What is recorded is what is trained, even if the recipe is edited meanwhile.
    job = dataclasses.replace(job, recipe=Path(shutil.copy(job.recipe, work)))
    command = [sys.executable, str(TRAIN), str(job.recipe), "--seed", str(job.seed)]
    command += ["--output_dir", str(work / "run"), *job.extra]
    environment = dict(os.environ) if torch.cuda.is_available() else {**os.environ, "OMP_NUM_THREADS": "1"}
    log = work / "log.txt"
    with open(log, "w", encoding="utf-8") as file:
        code = CHILDREN.call(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    if code != 0:
        tail = log.read_text(encoding="utf-8").splitlines()[-1:]
        raise RuntimeError(f"{name}, seed {job.seed} failed with exit code {code}: {' '.join(tail)} (log: {log})")
    found = json.loads((work / "run" / "results.json").read_text(encoding="utf-8"))
    form = job.fingerprint
    if keep_models:
        work.rename(folder / f"{name}-seed{job.seed}-{form}")
    else:
        shutil.rmtree(work)
    return {"recipe": name, "seed": job.seed, "fingerprint": form, **found}


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
