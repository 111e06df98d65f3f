"""Make the missing runs of a study, several at a time: each once, and what is finished is kept, whatever fails.

A finished run is a line of results.jsonl; what a killed study left half done (worker.py) is removed and made again.
"""

import concurrent.futures
import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from nt_failures.experiments.study import results_file
from nt_failures.experiments.study.worker import Attempts, Ended, Job


def run_missing(wanted: Sequence[Job], results: Path, at_once: int, together: int = 1) -> None:
    """Make every run that results.jsonl does not hold yet, `together` seeds of a recipe in each process.

    A run that diverges is finished, too, as diverged.jsonl says. A recipe that fails in another way is given up, and
    the others go on.

    Args:
        results: where a line is appended for every run that is finished.
        at_once: processes at a time.

    Raises:
        ChildProcessError: some recipes failed; all else is done.
    """
    attempts = Attempts(results.parent)
    attempts.clear()
    done = {*results_file.read_diverged(results), *(run.key for run in results_file.read_results(results))}
    todo = [job for job in wanted if job.key not in done]
    failures: dict[Path, Exception] = {}
    with (
        tqdm(total=len(wanted), initial=len(wanted) - len(todo), desc="runs", unit="run") as bar,
        concurrent.futures.ThreadPoolExecutor(at_once) as pool,
    ):
        waiting = {pool.submit(_attempt, jobs, attempts, failures) for jobs in in_groups(todo, together)}
        try:
            for future in concurrent.futures.as_completed(set(waiting)):
                _write(future.result(), results, bar)
                waiting.discard(future)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            attempts.stop()
            for future in waiting:
                if not future.cancelled():
                    with contextlib.suppress(OSError):  # one run that cannot be written loses no other
                        _write(future.result(), results, bar)
            raise
    if failures:
        raise ChildProcessError("; ".join(map(str, failures.values())))


def _attempt(jobs: Sequence[Job], attempts: Attempts, failures: dict[Path, Exception]) -> Ended:
    """Train, unless the recipe has failed; its first error is kept until all other runs are written."""
    recipe = jobs[0].recipe
    try:
        ended = Ended([], None, failures[recipe]) if recipe in failures else attempts.train(jobs)
    except Exception as error:
        ended = Ended([], None, error)
    if ended.error is not None:
        failures.setdefault(recipe, ended.error)
    return ended


def _write(ended: Ended, results: Path, bar: tqdm) -> None:
    """Put the lines of what has ended on disk, and only then remove its folder."""
    while ended.records:
        record = ended.records.pop(0)  # first: an interrupt behind the writing must not write it twice
        diverged = "diverged" in record
        try:
            results_file.append_result(results_file.diverged_file(results) if diverged else results, record)
        except OSError:
            ended.records.insert(0, record)
            raise
        outcome = "diverged" if diverged else f"{record['metrics']['free/exact']:.3f}"
        bar.set_postfix_str(f"{record['recipe']} seed {record['seed']}: {outcome}")
        bar.update()
    if ended.error is None:
        shutil.rmtree(ended.work, ignore_errors=True)


def in_groups(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    """Seeds of one recipe under the same flags, at most `size` in a group; in the order of the groups' first jobs."""
    alike: dict[tuple, list[Job]] = {}
    for job in jobs:
        alike.setdefault((job.recipe, job.extra), []).append(job)
    groups = [same[i : i + size] for same in alike.values() for i in range(0, len(same), size)]
    return sorted(groups, key=lambda group: jobs.index(group[0]))
