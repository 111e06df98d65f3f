"""Finished runs from anywhere, side by side: what differs in their arguments beside what differs in their results."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nt_failures.experiments.arguments import DataArguments, ModelArguments, ObjectiveArguments
from nt_failures.experiments.merging import OPTIONS
from nt_failures.experiments.run_arguments import RunArguments
from nt_failures.experiments.study import results_file
from nt_failures.experiments.study.grid import shown
from nt_failures.experiments.study.job import Key
from nt_failures.experiments.study.results_file import StudyRun
from nt_failures.experiments.study.summary import study_table, summarise
from nt_failures.hub.load import read_results
from nt_failures.hub.recipe import recipe
from nt_failures.hub.run_files import RESULTS_FILE
from nt_failures.hub.run_results import RunResults
from nt_failures.registry import NotImported

DEFAULTS = {
    field.name: field.default_factory() if field.default is dataclasses.MISSING else field.default
    for arguments in (DataArguments, ModelArguments, ObjectiveArguments, RunArguments)
    for field in dataclasses.fields(arguments)
    if field.name not in OPTIONS
}
"""Of arguments that results.json leaves out where they are default."""
COLUMNS = (
    *("n", "chance", "exact", "decision", "others", "follow_rate", "train_decision", "solved", "solved_at", "steps"),
    *("flops", "verdict"),
)
"""What a `StudyRun` says of a result."""

LONGEST = 76
"""Letters by which a figure names a row by what differs; two lines of them."""


@dataclasses.dataclass(frozen=True)
class FoundRun:
    """A finished run, wherever it was found."""

    name: str
    """folder or Hub id, and the recipe where it is a line of a study"""
    arguments: Mapping[str, Any]
    """what differs from the defaults; an entry of a mapping by both names, `objective_options.heads`"""
    results: RunResults
    study_run: StudyRun
    lost: Sequence[int] = ()
    """seeds of the same study and recipe that diverged"""

    @classmethod
    def of(cls, name: str, results: RunResults, lost: Sequence[int] = ()) -> "FoundRun":
        """ValueError unless the results are those of a whole run."""
        try:
            arguments = flat(recipe(results.arguments or {}))
            key = Key(name, arguments.get("seed", DEFAULTS["seed"]), "")
            return cls(name, arguments, results, StudyRun.from_json({**results.to_json(), **key._asdict()}), lost)
        except NotImported:
            raise
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{name}: its results.json is not that of a finished run ({error}); train it by examples/train.py."
            ) from error

    @property
    def seed(self) -> int:
        """The model's and the batches'."""
        return self.study_run.key.seed

    def argument(self, name: str) -> Any:
        """Its value, today's default where the run does not say; None for none."""
        return self.arguments.get(name, DEFAULTS.get(name))


def has_runs(folder: Path) -> bool:
    """Whether it is the folder of a finished run or of a study."""
    return any((folder / name).exists() for name in (RESULTS_FILE, "results.jsonl"))


def read_runs(name_or_path: str) -> list[FoundRun]:
    """The run of a folder or a repository on the Hub, or all runs of a study's folder.

    Raises:
        ValueError: no finished run there, a damaged file, or a class of your own that is not imported.
        OSError: no such repository within reach.
    """
    lines = Path(name_or_path) / "results.jsonl"
    if lines.is_file():
        read = results_file.read_lines(lines, lambda line: (results_file.read_key(line), RunResults.from_json(line)))
        finished = dict(reversed(read))  # the first line of a seed counts
        lost = {*results_file.read_diverged(lines)} - {*finished}
        return [
            FoundRun.of(
                f"{name_or_path}: {key.recipe}",
                finished[key],
                [other.seed for other in lost if (other.recipe, other.fingerprint) == (key.recipe, key.fingerprint)],
            )
            for key in dict.fromkeys(key for key, _ in read)
        ]
    results = read_results(name_or_path, "remove it, or give another run")
    if results is None:
        raise ValueError(f"{name_or_path} has no results.json; give the folder or the Hub id of a finished run.")
    return [FoundRun.of(name_or_path, results)]


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping whose mappings are entries themselves.

    Example:
        >>> flat({"order": "forward", "objective_options": {"heads": 4}})
        {'order': 'forward', 'objective_options.heads': 4}
    """
    parts = [
        {f"{k}.{name}": v for name, v in value.items()} if isinstance(value, Mapping) else {k: value}
        for k, value in values.items()
    ]
    return {name: value for part in parts for name, value in part.items()}


def differing(runs: Sequence[FoundRun]) -> list[str]:
    """The arguments in which some of the runs differ, but for the seed."""
    names = dict.fromkeys(name for run in runs for name in run.arguments if name != "seed")
    return [name for name in names if any(run.argument(name) != runs[0].argument(name) for run in runs)]


def groups(runs: Sequence[FoundRun]) -> list[dict[str, Any]]:
    """Groups of `summarise`, one for all runs that differ in the seed alone, in the order of their first runs.

    Each with its `settings`, the arguments that differ, as text, and as `entry` the name of its first run. A second run
    of the same arguments and seed is no further seed: it stands in a group of its own.
    """
    names, rows, seen = differing(runs), {}, collections.Counter()
    for run in runs:
        texts = tuple(shown(run.argument(name)) for name in names)
        seen[texts, run.seed] += 1
        rows.setdefault((texts, seen[texts, run.seed]), []).append(run)
    found = []
    for (texts, again), members in rows.items():
        settings = dict(zip(names, texts, strict=True))
        said = " ".join(f"{name}={value}" for name, value in settings.items() if value != "-")
        said = said if 0 < len(said) <= LONGEST else Path(members[0].name).name
        lost = {seed for run in members for seed in run.lost} - {run.seed for run in members}
        (group,) = summarise(
            [dataclasses.replace(run.study_run, key=Key("", run.seed, "")) for run in members],
            [Key("", seed, "") for seed in lost],
        )
        first, *others = dict.fromkeys(run.name for run in members)
        entry = first + (f" and {len(others)} more" if others else "")
        name = f"{said} ({again})" if again > 1 else said
        found.append({**group, "name": name, "entry": entry, "settings": settings})
    return found


def table(runs: Sequence[FoundRun]) -> str:
    """The groups as a Markdown table, and in what the runs differ beside their arguments."""
    text = study_table(groups(runs), first="run")
    text += "\nA row is all runs that differ in the seed alone. `-`: not set, or no argument of that run.\n\n"
    where = [flat({"versions": run.results.versions, "hardware": run.results.hardware}) for run in runs]
    for name in dict.fromkeys(name for one in where for name in one):
        values = dict.fromkeys(shown(one.get(name)) for one in where)
        if len(values) > 1:
            text += f"- {name} differs: {', '.join(values)}\n"
    return text


def rows(runs: Sequence[FoundRun]) -> list[list[Any]]:
    """A line of CSV for each run, the first of them the head: name, what differs, seed, what was measured, cost."""
    names, cost = differing(runs), ("examples", "parameters", "train_seconds")
    lines = [["run", *names, "seed", *COLUMNS, *cost]]
    for run in runs:
        arguments = [run.argument(name) for name in names]
        measured = [getattr(run.study_run, name) for name in COLUMNS]
        lines.append([run.name, *arguments, run.seed, *measured, *(getattr(run.results, name) for name in cost)])
    return lines
