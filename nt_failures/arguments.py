"""The arguments of examples/train.py: dataclasses, a YAML recipe, and flags that override the recipe."""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser
from transformers.integrations import get_reporting_integration_callbacks

from nt_failures import finder
from nt_failures.limits import not_finite
from nt_failures.records import changed_arguments, portable
from nt_failures.tasks.base import Task, check_integers
from nt_failures.trainer import ObjectiveTrainingArguments


def _help(text: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class DataArguments:
    """Which graphs to train and test on. The task's own knobs (`--degree`, ...) are flags beside these."""

    task: str = _help("Task: a file of nt_failures/tasks, or a dotted path to your own class.", "path_star")
    num_train: int = _help("Different training rows.", 200_000)
    streaming: bool = _help("Draw fresh training rows without end instead of `num_train` fixed ones.", False)
    num_validation: int = _help("Held-out rows for the evaluations during training.", 1_000)
    num_test: int = _help("Held-out rows for the final table.", 20_000)
    dataset_seed: int = _help("Seed of the data; `seed` is the model's and the batches'.", 0)
    overlap: str = _help("`forbid`: splits share no instance; `allow`: as the paper's released code.", "forbid")

    def __post_init__(self) -> None:
        check_integers(self, num_train=1, num_validation=1, num_test=1, dataset_seed=0)

    def knobs(self) -> dict[str, Any]:
        """The keyword arguments of `data.load_splits`."""
        fields = dataclasses.asdict(self)
        return {"seed": fields.pop("dataset_seed")} | {name: fields[name] for name in fields if name != "task"}


@dataclasses.dataclass(frozen=True)
class ModelArguments:
    """Which model. JSON fields are strings on the command line, mappings in a recipe, and mappings once parsed."""

    model: str = _help("FAMILY-LAYERSxWIDTH from scratch (gpt2-4x64, mamba-2x32), or a folder or Hub id.", "gpt2-4x64")
    config_overrides: str = _help("Fields of the model's config, as JSON: '{\"n_inner\": 64}'.", "{}")
    tokenizer: str | None = _help("Folder or Hub id; default: the model's own, or word-level from scratch.", None)


@dataclasses.dataclass(frozen=True)
class ObjectiveArguments:
    """How the model is trained."""

    objective: str = _help("A file of nt_failures/objectives, or a dotted path to your own class.", "next_token")
    order: str = _help("`forward`, or `reversed` to train on the target from its end.", "forward")
    objective_options: str = _help("The objective's other options, as JSON.", "{}")


@dataclasses.dataclass
class RunArguments(ObjectiveTrainingArguments):
    """How the run behaves: all of TrainingArguments, and these."""

    sample_rows: int = _help("Sample predictions shown at every evaluation; 0 for none.", 3)
    overwrite_output_dir: bool = _help("Replace an earlier run in output_dir.", False)
    resume: bool = _help("Go on from the newest whole checkpoint in output_dir; begin where there is none.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sample_rows <= 100:
            raise ValueError(f"sample_rows={self.sample_rows} is not in 0..100; 0 shows none.")
        exclusive = ("overwrite_output_dir", "resume_from_checkpoint", "resume")
        both = [name for name in exclusive if vars(self)[name]]
        if len(both) > 1:
            raise ValueError(f"{both[0]} and {both[1]} exclude each other; give one of them.")
        _check_finite("lr_scheduler_kwargs", self.lr_scheduler_kwargs)
        _check_trackers(self.report_to)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """One run, parsed."""

    task: Task
    data: DataArguments
    model: ModelArguments
    objective: ObjectiveArguments
    training: RunArguments
    given: dict[str, Any]
    """what the recipe and the flags set, as flat JSON-ready values"""

    def to_dict(self) -> dict[str, Any]:
        """The run, JSON-ready: the task's knobs, our arguments, and of TrainingArguments what differs from default.

        Where it is written to, under which name and with which token is no part of it; of absolute paths only the last name is.
        """
        parts = {"task": self.task, "data": self.data, "model": self.model, "objective": self.objective}
        plain = {name: portable(dataclasses.asdict(part)) for name, part in parts.items()}
        return {**plain, "training": changed_arguments(self.training)}


def parse(argv: Sequence[str], default_recipe: Path | None = None, prog: str | None = None) -> Arguments:
    """Parse `[RECIPE.yaml] [--flag value ...]`; flags override the recipe.

    `--objective` on the command line drops the recipe's `objective_options`, which are for another objective, and
    `--model` its `config_overrides`.

    Args:
        argv: arguments without the program's name.
        default_recipe: read when no argument is given at all, or none but flags.

    Raises:
        ValueError: an unknown key or flag (with the nearest known name), a value out of range, a broken recipe.
    """
    argv = list(argv)
    recipe_path = Path(argv.pop(0)) if argv and not argv[0].startswith("-") else default_recipe
    recipe = {} if recipe_path is None else read_recipe(recipe_path)
    where = "command line" if recipe_path is None else f"recipe {recipe_path} and command line"
    task_name = peek(argv, "task") or recipe.get("task", "path_star")
    task_class = finder.find("tasks", str(task_name))
    parser = _Parser(
        [task_class, DataArguments, ModelArguments, ObjectiveArguments, RunArguments], prog=prog, allow_abbrev=False
    )
    next(action for action in parser._actions if action.dest == "report_to").nargs = "+"  # theirs takes one only
    known = [action.dest for action in parser._actions]
    _check_names(recipe, known, f"recipe {recipe_path}")
    # As text, so that numbers of a recipe are checked as those of flags are.
    parser.set_defaults(**{name: str(v) if isinstance(v, (bool, int, float)) else v for name, v in recipe.items()})
    namespace, rest = parser.parse_known_args(argv)
    _check_names([word.split("=")[0].lstrip("-") for word in rest if word.startswith("--")], known, "command line")
    if rest:
        raise ValueError(f"command line: {rest[0]!r} belongs to no flag; flags are written --name value.")
    values = vars(namespace)
    if empty := next((word for word in argv if word.startswith("--") and word.endswith("=--")), None):
        raise ValueError(f"command line: {empty!r} gives no value.")  # argparse takes the two hyphens out
    for name in ("config_overrides", "objective_options"):
        values[name] = _json_object(name, values[name])
    for choice, options in (("objective", "objective_options"), ("model", "config_overrides")):
        if {choice, options} & set(_flags(argv)) == {choice}:
            values[options] = {}  # the recipe's options are for the recipe's objective or model
    given = {name: values[name] for name in sorted({*recipe, *_flags(argv)}) if name in values}
    try:
        parts = parser.parse_dict(values, allow_extra_keys=True)
    except ValueError:
        raise
    except Exception as error:  # transformers meets a value of a wrong kind with whatever breaks on it
        short = {name: repr(value)[:80] for name, value in given.items()}
        raise ValueError(f"{where}: some of {short} are of a wrong kind ({type(error).__name__}: {error}).") from error
    return Arguments(*parts, given=given)


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage of 150 flags before it."""
        raise ValueError(f"{message}; see --help for all flags.")


def _check_trackers(names: Sequence[str]) -> None:
    """Make the callbacks as the Trainer will, once the data are built: it is there that they miss their packages."""
    try:
        for callback_class in get_reporting_integration_callbacks(names):
            callback_class()
    except (RuntimeError, ImportError, ValueError) as error:
        raise ValueError(f"report_to={' '.join(map(_plain, names))}: {_plain(str(error))}") from error


def _plain(text: str) -> str:
    """On one line, without characters that move a terminal's cursor, and cut where it goes on for long."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:500])


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe: one flat YAML mapping from flag names to values."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(f"recipe {path} does not exist; see examples/recipes, or give flags only.") from error
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError, as text that is no UTF-8
        shown = str(path) if len(str(path)) < 300 else f"{str(path)[:300]}..."
        raise ValueError(f"recipe {shown} is no text file that can be read: {type(error).__name__}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:  # its own message quotes the line, which may hold a token
        where = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
        raise ValueError(f"recipe {path} is not valid YAML: {error.problem}, {where}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2024-99-99
        raise ValueError(f"recipe {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"recipe {path} must be a mapping of flag names to values, such as 'learning_rate: 0.001'.")
    return values


def _check_names(names: Sequence[str] | Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see --help for all names."
            raise ValueError(f"{where}: unknown name {name!r}; {hint}")


def peek(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag on a command line that is not parsed yet."""
    found = None  # the last one counts, as for argparse
    for i, word in enumerate(argv):
        if word == f"--{flag}" and i + 1 < len(argv):
            found = argv[i + 1]
        if word.startswith(f"--{flag}="):
            found = word.partition("=")[2]
    return found


def _flags(argv: Sequence[str]) -> list[str]:
    names = [word.lstrip("-").split("=")[0] for word in argv if word.startswith("--")]
    return [name.replace("-", "_") for name in names]  # argparse takes --max-steps, too


def _json_object(name: str, value: dict | str) -> dict[str, Any]:
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}={value[:200]!r} is not JSON ({error}); write it as '{{\"key\": value}}'.") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"{name}={value!r} is not a JSON object; write it as '{{\"key\": value}}'.")
    _check_finite(name, parsed)
    return parsed


def _check_finite(name: str, value: Any) -> None:
    if bad := not_finite(value):
        raise ValueError(f"{name}: {bad[0]} is no finite number; give one, or leave it out.")
