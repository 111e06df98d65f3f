"""results.jsonl of a study, a line for each finished run, and diverged.jsonl beside it; readable after any kill."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nt_failures.evaluation.metrics import judged_by
from nt_failures.experiments.study.study_run import Key, StudyRun, read_key

logger = logging.getLogger(__name__)


def read_results(path: Path) -> list[StudyRun]:
    """The finished runs of a study. A torn last line, from a killed writer, is left out with a warning.

    Raises:
        ValueError: a damaged line elsewhere, named by its number.
    """
    return _read_lines(path, StudyRun.from_json)


def record(key: Key, results: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a finished run: its key and its results.json, of whose learning curve only what times are read from.

    The rest of the curve would be most of the file.
    """
    trained = results["trained_positions"]
    curve = [
        {name: point[name] for name in ("step", *judged_by(point, trained))} for point in results["learning_curve"]
    ]
    return {**key._asdict(), **results, "learning_curve": curve}


def diverged_file(results: Path) -> Path:
    """Where the runs of a study stand whose loss or weights became NaN or infinite: they have no results."""
    return results.with_name("diverged.jsonl")


def read_diverged(results: Path) -> list[Key]:
    """The diverged runs of the study with this results.jsonl, as `read_results`."""
    return _read_lines(diverged_file(results), read_key)


def read_study(results: Path, forms: Mapping[str, str]) -> tuple[list[StudyRun], list[Key]]:
    """The finished and the diverged runs of recipes as they are now: a changed recipe, or another flag, is another one.

    A seed counts once: the first line of it, and a seed that was finished has not diverged.

    Args:
        forms: fingerprint of each recipe.
    """
    finished: dict[Key, StudyRun] = {}
    for run in read_results(results):
        if forms.get(run.key.recipe) == run.key.fingerprint:
            finished.setdefault(run.key, run)
    diverged = [key for key in read_diverged(results) if forms.get(key.recipe) == key.fingerprint]
    return list(finished.values()), [key for key in dict.fromkeys(diverged) if key not in finished]


def _read_lines(path: Path, read: Callable[[Any], Any]) -> list[Any]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    runs = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and line.strip() and _torn(line):
            logger.warning("%s: line %d is torn and left out; that run will be done again", path, number)
        elif line.strip():
            try:
                runs.append(read(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {number} is damaged ({error}); remove that line and run again."
                ) from error
    return runs


def _torn(line: bytes) -> bool:
    """Whether a line is none or a part of one: no part of a JSON object is JSON."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def append_result(path: Path, record: Mapping[str, Any]) -> None:
    """Append one run, whole or not at all, on disk on return. A torn last line is cut off, one without newline kept."""
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
