"""The command line of a run: a YAML recipe, and flags that override it, checked and made into Arguments."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nt_failures.experiments import flags, merging
from nt_failures.experiments.arguments import Arguments, RunOptions
from nt_failures.hub.recipe import read_yaml, scalar_texts
from nt_failures.registry import first_line, shorten, suggestion
from nt_failures.tasks import Task, find_task

if TYPE_CHECKING:  # imports torch
    from nt_failures.training.arguments import ObjectiveTrainingArguments


def parse(argv: Sequence[str], default_recipe: Path | None = None, prog: str | None = None) -> Arguments:
    """Parse `[RECIPE.yaml | --recipe NAME] [--flag value ...]`; flags override the recipe.

    Mappings such as `config_overrides` are merged into the recipe's (merging.py), and `--task` drops those of its
    parameters that the task does not have: what was kept and dropped is in `notes`.

    ValueError for an unknown key or flag (with the nearest known name), a value out of range, a broken recipe. `--help`
    ends the program.
    """
    path, argv = _take_recipe(argv, default_recipe)
    if late := next((word for word in argv if word.endswith((".yaml", ".yml")) and Path(word).is_file()), None):
        raise ValueError(f"command line: the recipe {late!r} must be the first word, before all flags.")
    where, recipe = f"recipe {path}", {} if path is None else read_recipe(path)
    written = {} if path is None else scalar_texts(path.read_text(encoding="utf-8"))
    task_class, recipe, notes = for_task(peek(argv, "task"), recipe)
    if {"-h", "--help"} & set(argv):
        flags.show_help(flags.parser_of(task_class, RunOptions, prog), task_class, recipe, written, where)
    from nt_failures.experiments.run_arguments import RunArguments  # imports torch, which --help does not need

    parser, named = flags.parser_of(task_class, RunArguments, prog), flag_names(argv)
    if "--help_all" in argv:
        flags.show_help(parser, task_class, recipe, written, where)
    flags.check_known(where, list(recipe), parser.names, recipe)
    # transformers adds --no_x for a flag x that is on by default.
    unknown = [name for name in named if name.removeprefix("no_") not in parser.names]
    flags.check_known("command line", unknown, parser.names, recipe)
    parser.recipe_defaults(recipe, written)
    values, rest = _values(parser, argv)
    if rest:
        raise ValueError(f"command line: {rest[0]!r} belongs to no flag; flags are written --name value.")
    notes += merging.merge(values, named, recipe)
    *ours, training = _made(parser, values, recipe, named)
    check_idle(named, training)
    return Arguments(*ours, training, given=sorted({*recipe, *named} & set(parser.names)), notes=notes)


def check_names(path: Path, extra: Sequence[str], others: Sequence[str]) -> None:
    """ValueError for a flag that runs of a recipe do not know; `others`, a script's own, may be the nearest, too."""
    from nt_failures.experiments.run_arguments import RunArguments  # imports torch

    task_class, recipe, _ = for_task(peek(extra, "task"), read_recipe(path))
    known = flags.parser_of(task_class, RunArguments).names
    unknown = [name for name in flag_names(extra) if name.removeprefix("no_") not in known]
    flags.check_known("command line", unknown, sorted({*known, *others}), recipe)


def _take_recipe(argv: Sequence[str], default: Path | None) -> tuple[Path | None, list[str]]:
    """The recipe of a command line, and the flags beside it."""
    parser = plain_parser(add_help=False)
    parser.add_argument("--recipe", nargs="?", const="")
    chosen, rest = parser.parse_known_args(argv)
    first = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if chosen.recipe is None:
        return default if first is None else Path(first), rest
    if first is not None:
        raise ValueError(f"command line: {first!r} and --recipe {chosen.recipe} are two recipes; give one of them.")
    return find_recipe(chosen.recipe), rest


def find_recipe(name: str) -> Path:
    """The file of a recipe of this library by its name, such as `quickstart` or `small/gpt2-reversed`.

    They lie inside an installed package, and in examples/recipes of a clone. A path to a YAML file is taken as it is.
    ValueError for another name, with the nearest.
    """
    here = Path(__file__).parent
    folder = here / "recipes" if (here / "recipes").is_dir() else here.parents[1] / "examples" / "recipes"
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in known:
        raise ValueError(
            f"--recipe {shorten(name)} is no recipe of this library.{suggestion(name, known)} They lie in {folder}."
        )
    return known[name]


def for_task(given: str | None, recipe: Mapping[str, Any]) -> tuple[type[Task], dict[str, Any], list[str]]:
    """The class of the given task, else of the recipe's; the recipe without the parameters of another, and a note."""
    named = str(recipe.get("task", "path_star"))
    task_class = find_task(given or named)
    knobs, others = ({field.name for field in dataclasses.fields(t)} for t in (task_class, find_task(named)))
    dropped = {name: value for name, value in recipe.items() if name in others - knobs}
    notes = [merging.note("the task's parameters", {}, dropped)] if dropped else []
    return task_class, {name: value for name, value in recipe.items() if name not in dropped}, notes


def _values(parser: flags.Parser, argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The value of every flag of a parser: the command line's, else the default; and the rest."""
    for action in parser._actions:  # argparse has no public way to a flag that transformers has added
        if action.dest == "report_to":  # which takes one name only
            action.nargs = "+"
    namespace, rest = parser.parse_known_args(argv)
    if empty := next((word for word in argv if word.startswith("--") and word.endswith("=--")), None):
        raise ValueError(f"command line: {empty!r} gives no value.")  # argparse makes an empty list of it
    return vars(namespace), rest


def _made(parser: flags.Parser, values: dict[str, Any], recipe: Mapping[str, Any], named: Sequence[str]) -> tuple:
    """The dataclasses of a parser."""
    try:
        return parser.parse_dict(values, allow_extra_keys=True)
    except ValueError:
        raise
    except Exception as error:  # transformers meets a value of a wrong kind with whatever breaks on it
        short = {name: repr(values[name])[:80] for name in sorted({*recipe, *named} & set(values))}
        raise ValueError(f"some of {short} are of a wrong kind ({type(error).__name__}: {error}).") from error


def check_idle(named: Sequence[str], training: "ObjectiveTrainingArguments") -> None:
    """ValueError for a flag that would change nothing. A recipe's values may idle, as flags override parts of it."""
    always = dict.fromkeys(("do_train", "do_eval", "do_predict"), (True, "a run trains, evaluates and tests", ""))
    idle = always | {
        "muon_learning_rate": (training.optimizer != "muon", "optimizer='adamw' has no such rate", "--optimizer muon"),
        "num_train_epochs": (training.max_steps > 0, f"max_steps={training.max_steps} ends the run", "--max_steps -1"),
        "save_steps": (training.save_strategy == "no", "save_strategy='no' saves nothing", "--save_strategy steps"),
        "eval_steps": (training.eval_strategy == "no", "eval_strategy='no' evaluates nothing", "--eval_strategy steps"),
        "hub_model_id": (not training.push_to_hub, "nothing is pushed", "--push_to_hub true"),
    }
    for name in named:
        idles, reason, repair = idle.get(name, (False, "", ""))
        if idles:
            way = f"add {repair}, or leave it out" if repair else "leave it out"
            raise ValueError(f"--{name} would change nothing, as {reason}; {way}.")


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe: one flat YAML mapping from flag names to values."""
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"recipe {path} does not exist; give a file, --recipe NAME or flags only.") from error
    except yaml.MarkedYAMLError as error:  # its own message quotes the line, which may hold a token
        where = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
        raise ValueError(f"recipe {path} is not valid YAML: {error.problem}, {where}.") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a date such as 2024-99-99
        raise ValueError(f"recipe {shorten(str(path))} cannot be read as YAML: {first_line(error)[:200]}.") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"recipe {path} must be a mapping of flag names to values, such as 'learning_rate: 0.001'.")
    return values


def plain_parser(description: str | None = None, **options: Any) -> argparse.ArgumentParser:
    """A parser of flags beside those of a run, which it leaves to be parsed later."""
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=form, allow_abbrev=False, **options)


def peek(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag on a command line that is not parsed yet."""
    parser = plain_parser(add_help=False)
    parser.add_argument(f"--{flag}", nargs="?", dest="value")
    return parser.parse_known_args(argv)[0].value


def flag_names(argv: Sequence[str]) -> list[str]:
    """The names of the flags on a command line; argparse takes --max-steps, too."""
    return [word.lstrip("-").split("=")[0].replace("-", "_") for word in argv if word.startswith("--")]
