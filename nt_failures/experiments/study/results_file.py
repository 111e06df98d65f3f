"""results.jsonl of a study, a line for each finished run, and diverged.jsonl beside it; readable after any kill."""

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nt_failures.diagnosis.evidence import SOLVED_AT
from nt_failures.diagnosis.learning_order import learnt_at
from nt_failures.evaluation.metrics import judged, judged_by
from nt_failures.experiments.arguments import DataArguments, ObjectiveArguments
from nt_failures.experiments.study.job import Key
from nt_failures.hub.run_results import RunResults
from nt_failures.objectives import find_objective
from nt_failures.registry import NotImported, OtherDefinition
from nt_failures.tasks import Task, find_task, read_task
from nt_failures.tasks._sources import definition
from nt_failures.tasks.facts import Words
from nt_failures.training.gradient_shares import ALL

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A finished run. Its shares are in 0..1, its times in training steps.

    `exact` is the share of exact answers on the test, or of the worst of the positions that alone were trained;
    `others` the worst position but the decision, of the rows that do not decide there where it differs from row to row,
    None where only some were trained; `chance` and `decision` are None for a task without a decision; `train_decision`
    is on training rows, None where not all of them were seen; `curve` is step and validation accuracy, judged as
    `exact`; `gradients` are step and share of the further terms of the loss, all together, the last at the training's
    end; `by_difficulty` are exact answers by each size that differs from row to row; `task` are the task's parameters,
    and `words` what it calls its things; `creativity` is as in `metrics.Shares`.
    """

    key: Key
    n: int
    chance: float | None
    trained_positions: Sequence[int] | None
    exact: float
    decision: float | None
    others: float | None
    follow_rate: float | None
    train_decision: float | None
    curve: Sequence[tuple[int, float]]
    gradients: Sequence[tuple[int, float]]
    steps: int
    flops: float | None
    verdict: str
    by_difficulty: Mapping[str, Mapping[int, float]]
    task_name: str
    task: Mapping[str, Any]
    words: Words
    creativity: float | None

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "StudyRun":
        """The run of a line; ValueError unless it holds all that a study reads, each of its kind."""
        key = read_key(line)
        run = RunResults.from_json(line, "the line")
        try:
            decoding = run.judged_decoding
            shares, at = getattr(run.accuracies, decoding).positions, run.decision_position
            if at is None and run.chance is not None:  # it differs from row to row
                shares = run.diagnosis["forced_vs_free"][f"{decoding}_others"]
            cheat, trained = run.diagnosis["clever_hans"], run.trained_positions
            name = run.data_arguments.get("task", DataArguments.task)
            kind = find_task(name, from_file=True)
            found = cls(
                key=key,
                n=run.n,
                chance=run.chance,
                trained_positions=trained,
                exact=judged(run.metrics, trained),
                decision=run.metrics.get("decision"),
                others=None if trained else min((share for k, share in shares.items() if k != at), default=None),
                follow_rate=None if cheat is None else cheat["follow_rate"],
                train_decision=(run.diagnosis["decision_token"] or {}).get("train_accuracy"),
                curve=[(int(point["step"]), judged(point, trained)) for point in run.learning_curve],
                gradients=[(int(point["step"]), float(point[ALL])) for point in run.gradient_shares or ()],
                steps=run.steps,
                flops=run.flops,
                verdict=run.verdict["name"],
                by_difficulty={
                    name: {int(size): float(each["exact"]) for size, each in sizes.items()}
                    for name, sizes in (run.diagnosis.get("by_difficulty") or {}).items()
                },
                task_name=name,
                task=run.arguments.get("task", {}),
                words=Words(kind.PROBLEM, kind.ANSWER, kind.DETOUR),
                creativity=run.metrics.get("free/creativity"),
            )
            known = (found.follow_rate, found.train_decision, found.others, found.creativity)
            measured = [x for x in known if x is not None]
            if not (all(0 <= x <= 1 for x in measured) and found.steps > 0 and isinstance(found.verdict, str)):
                raise ValueError(f"no run: an accuracy that is not in 0..1, no step, or no verdict in {found}")
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"no run: {error!r}") from error
        return found

    def make_task(self) -> Task:
        """The task, with its parameters."""
        return read_task({"task": self.task_name, **self.task})

    @property
    def solved(self) -> bool:
        """Whether the test says so."""
        return self.exact >= SOLVED_AT

    @property
    def solved_at(self) -> int | None:
        """Training steps until validation says so for good."""
        return learnt_at(self.curve, SOLVED_AT)


def read_key(line: Mapping[str, Any]) -> Key:
    """Recipe, seed and fingerprint of a line; ValueError if they are not of their kinds."""
    key = [line.get(name) for name in Key._fields] if isinstance(line, Mapping) else [line]
    if [type(name) for name in key] != [str, int, str]:
        raise ValueError(f"no run: {key} must be recipe, seed and fingerprint: text, a whole number, text")
    return Key(*key)


def read_results(path: Path) -> list[StudyRun]:
    """The finished runs of a study. A torn last line, from a killed writer, is left out with a warning.

    ValueError for a damaged line elsewhere or one of a task or objective that is defined otherwise now, named by its
    number, or a class of your own that is not imported.
    """
    return read_lines(path, lambda line: _as_defined_now(line, StudyRun.from_json))


def _as_defined_now(line: Mapping[str, Any], read: Callable[[Any], Any]) -> Any:
    found, versions = read(line), line.get("versions", {})
    for what, (find, name) in _named(line.get("arguments", {})).items():
        with contextlib.suppress(NotImported):  # of a recipe that this study does not run: it imports those of its own
            if what in versions:
                now = definition(kind := find(name, from_file=True))
                if versions[what] not in (now, str(kind.VERSION)):  # which alone was written earlier
                    raise OtherDefinition(f"of version {versions[what]} of {name}, which is version {now} now")
    return found


def definitions(arguments: Mapping[str, Any]) -> dict[str, str]:
    """How the task and the objective of a run's arguments.json are defined, as its results say."""
    return {what: definition(find(name)) for what, (find, name) in _named(arguments).items()}


def _named(arguments: Mapping[str, Any]) -> dict[str, tuple[Callable[..., type], str]]:
    task = arguments.get("data", {}).get("task", DataArguments.task)
    objective = arguments.get("objective", {}).get("objective", ObjectiveArguments.objective)
    return {"task": (find_task, task), "objective": (find_objective, objective)}


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
    """Where the runs of results.jsonl stand whose loss or weights became NaN or infinite: they have no results.

    Of another file, such as tuning.jsonl, they stand apart: its seeds are none that are reported.
    """
    return results.with_name("diverged.jsonl" if results.stem == "results" else f"diverged-{results.name}")


def read_diverged(results: Path) -> list[Key]:
    """The diverged runs of this file, as `read_results`."""
    return read_lines(diverged_file(results), lambda line: _as_defined_now(line, read_key))


def read_study(results: Path, forms: Mapping[str, str]) -> tuple[list[StudyRun], list[Key]]:
    """The finished and the diverged runs of recipes as their fingerprints, `forms`, are now.

    A seed counts once: the first line of it, and a seed that was finished has not diverged.
    """
    finished: dict[Key, StudyRun] = {}
    for run in read_results(results):
        if forms.get(run.key.recipe) == run.key.fingerprint:
            finished.setdefault(run.key, run)
    diverged = [key for key in read_diverged(results) if forms.get(key.recipe) == key.fingerprint]
    return list(finished.values()), [key for key in dict.fromkeys(diverged) if key not in finished]


def read_lines(path: Path, read: Callable[[Any], Any]) -> list[Any]:
    """What `read` makes of each line's JSON; a torn last line and damaged ones as in `read_results`."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    runs, old = [], {}
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and line.strip() and _torn(line):
            logger.warning("%s: line %d is torn and left out; that run will be done again", path, number)
            break
        try:
            runs += [read(json.loads(line))] if line.strip() else []
        except NotImported:
            raise
        except OtherDefinition as error:
            old[number] = error
        except (ValueError, RecursionError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is damaged ({error}); remove that line and run again.") from error
    if old:
        numbers, error = ", ".join(map(str, old)), next(iter(old.values()))
        raise ValueError(f"{path}, lines that are old: {numbers} ({error}); remove them and run again.") from error
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
