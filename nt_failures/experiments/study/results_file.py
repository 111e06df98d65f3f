"""results.jsonl of a study: append-only, one line for each finished run, readable whatever was killed while it wrote.

Beside it stands diverged.jsonl, with the runs that have no results.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nt_failures.evaluation.metrics import judged_by
from nt_failures.experiments.study.summary import study_table, summarise

logger = logging.getLogger(__name__)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The finished runs of a study. A torn last line, from a killed writer, is left out with a warning.

    Raises:
        ValueError: a damaged line elsewhere, named by its number.
    """
    return _read_lines(path, _read)


def record(named: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a finished run, which `named` tells from others: its results.json, with a shorter learning curve.

    Of each evaluation stays what the time to solve is read from. All else would be most of the file, and stands in the
    run's own results.json, which `--keep_models` keeps.
    """
    trained = results["trained_positions"]
    curve = [
        {name: entry[name] for name in ("step", *judged_by(entry, trained))} for entry in results["learning_curve"]
    ]
    return {**named, **results, "learning_curve": curve}


def diverged_file(results: Path) -> Path:
    """Where the runs of a study stand whose loss or weights became NaN or infinite: they have no results."""
    return results.with_name("diverged.jsonl")


def read_diverged(results: Path) -> list[dict[str, Any]]:
    """The diverged runs of a study, as `read_results`: recipe, seed, fingerprint, and the error under `diverged`."""
    return _read_lines(diverged_file(results), _read_diverged)


def _read_lines(path: Path, read: Callable[[bytes], dict[str, Any]]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(read(line))
        except ValueError as error:
            if number == len(lines) and _torn(line):
                logger.warning("%s: line %d is torn and left out; that run will be done again", path, number)
                break
            raise ValueError(f"{path}, line {number} is damaged ({error}); remove that line and run again.") from error
    return records


def _torn(line: bytes) -> bool:
    """Whether a line is none or a part of one: no part of a JSON object is JSON."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def _read(line: bytes) -> dict[str, Any]:
    """One run, of which a row of the table can be made; ValueError for anything else."""
    try:
        record = json.loads(line)
        names = record["recipe"], record["fingerprint"], record["seed"], record["n"]
        study_table(summarise([record]))
        shares = [v for k, v in record["metrics"].items() if k == "decision" or "/" in k] + [record["chance"]]
        shares += [record["diagnosis"]["clever_hans"]["follow_rate"]] if record["diagnosis"]["clever_hans"] else []
        sound = all(0 <= share <= 1 for share in shares)
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"no run: {error!r}") from error
    if not (sound and [type(name) for name in names] == [str, str, int, int]):
        raise ValueError(f"no run: {names} must be recipe, fingerprint, seed and n, and every accuracy lie in 0..1")
    return record


def _read_diverged(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        values = [record[name] for name in ("recipe", "fingerprint", "seed", "diverged")]
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"no run: {error!r}") from error
    if [type(value) for value in values] != [str, str, int, str]:
        raise ValueError(f"no run: {values} must be recipe, fingerprint, seed and what was said")
    return record


def append_result(path: Path, record: Mapping[str, Any]) -> None:
    """Append one run, whole or not at all: a torn last line is cut off first, the new one is on disk on return.

    A last line that only lacks its newline is a run, which `read_results` has read: it is kept.
    """
    line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        file.seek(0)
        before, newline, last = file.read().rpartition(b"\n")
        if _torn(last):
            file.truncate(len(before) + len(newline))
        else:
            line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
