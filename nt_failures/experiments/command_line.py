"""The command line of a run: a YAML recipe, and flags that override it, checked and made into Arguments."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from transformers import HfArgumentParser

from nt_failures.experiments import merging
from nt_failures.experiments.arguments import Arguments, DataArguments, ModelArguments, ObjectiveArguments, RunOptions
from nt_failures.registry import first_line, shorten, suggestion
from nt_failures.tasks import Task, find_task

if TYPE_CHECKING:  # imports torch
    from nt_failures.training.arguments import ObjectiveTrainingArguments


def parse(argv: Sequence[str], default_recipe: Path | None = None, prog: str | None = None) -> Arguments:
    """Parse `[RECIPE.yaml] [--flag value ...]`; flags override the recipe.

    Mappings such as `config_overrides` are merged into the recipe's (merging.py), and `--task` drops those of its
    parameters that the task does not have: what was kept and dropped is in `notes`. `--help` ends the program, before
    torch is imported.

    ValueError for an unknown key or flag (with the nearest known name), a value out of range, a broken recipe.
    """
    argv = list(argv)
    path = Path(argv.pop(0)) if argv and not argv[0].startswith("-") else default_recipe
    if late := next((word for word in argv if word.endswith((".yaml", ".yml")) and Path(word).is_file()), None):
        raise ValueError(f"command line: the recipe {late!r} must be the first word, before all flags.")
    recipe = {} if path is None else read_recipe(path)
    named = str(recipe.get("task", "path_star"))
    task_class = find_task(peek(argv, "task") or named)
    knobs, others = ({field.name for field in dataclasses.fields(t)} for t in (task_class, find_task(named)))
    dropped = {name: value for name, value in recipe.items() if name in others - knobs}
    recipe = {name: value for name, value in recipe.items() if name not in dropped}
    notes = [merging.note("the task's parameters", {}, dropped)] if dropped else []
    parser = _parser(task_class, argv, prog)
    flags = flag_names(argv)
    values = _values(parser, argv, recipe, f"recipe {path}")
    notes += merging.merge(values, flags, recipe, parser)
    given = sorted({*recipe, *flags} & set(values))
    try:
        args = Arguments(*parser.parse_dict(values, allow_extra_keys=True), given=given, notes=notes)
    except ValueError:
        raise
    except Exception as error:  # transformers meets a value of a wrong kind with whatever breaks on it
        short = {name: repr(values[name])[:80] for name in given}
        raise ValueError(f"some of {short} are of a wrong kind ({type(error).__name__}: {error}).") from error
    _check_idle(flags, args.training)
    return args


def _parser(task_class: type[Task], argv: Sequence[str], prog: str | None) -> HfArgumentParser:
    """A parser of all flags; answers --help without those of TrainingArguments, and --help_all with them."""
    ours = [task_class, DataArguments, ModelArguments, ObjectiveArguments]
    try:
        if {"-h", "--help"} & set(argv):
            _Parser([*ours, RunOptions], prog=prog, epilog=_MORE_FLAGS).parse_args(["--help"])
        from nt_failures.experiments.run_arguments import RunArguments  # imports torch, for which --help need not wait

        parser = _Parser([*ours, RunArguments], prog=prog, allow_abbrev=False)
    except argparse.ArgumentError as error:
        flag = error.argument_name.split("/")[0].lstrip("-")
        raise ValueError(
            f"{task_class.__name__} has a field {flag!r}, which is a flag of every run; give the field another name."
        ) from error
    if "--help_all" in argv:
        parser.parse_args(["--help"])
    return parser


def _values(parser: HfArgumentParser, argv: Sequence[str], recipe: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The value of every flag: the command line's, else the recipe's, else the default."""
    # argparse has no public way to a flag that transformers has added: report_to takes one name only.
    next(action for action in parser._actions if action.dest == "report_to").nargs = "+"
    # As text, so that numbers of a recipe are checked as those of flags are.
    parser.set_defaults(**{name: str(v) if isinstance(v, (bool, int, float)) else v for name, v in recipe.items()})
    namespace, rest = parser.parse_known_args(argv)
    known = [action.dest for action in parser._actions]
    for source, names in ((where, recipe), ("command line", flag_names(rest))):
        for name in names:
            if name not in known:
                near = suggestion(name, known)
                raise ValueError(f"{source}: unknown name {shorten(name)}.{near} See --help_all for all names.")
    if rest:
        raise ValueError(f"command line: {rest[0]!r} belongs to no flag; flags are written --name value.")
    if empty := next((word for word in argv if word.startswith("--") and word.endswith("=--")), None):
        raise ValueError(f"command line: {empty!r} gives no value.")  # argparse makes an empty list of it
    return vars(namespace)


def _check_idle(flags: Sequence[str], training: "ObjectiveTrainingArguments") -> None:
    """ValueError for a flag that would change nothing. A recipe's values may idle, as flags override parts of it."""
    always = dict.fromkeys(("do_train", "do_eval", "do_predict"), (True, "a run trains, evaluates and tests", ""))
    idle = always | {
        "muon_learning_rate": (training.optimizer != "muon", "optimizer='adamw' has no such rate", "--optimizer muon"),
        "num_train_epochs": (training.max_steps > 0, f"max_steps={training.max_steps} ends the run", "--max_steps -1"),
        "save_steps": (training.save_strategy == "no", "save_strategy='no' saves nothing", "--save_strategy steps"),
        "eval_steps": (training.eval_strategy == "no", "eval_strategy='no' evaluates nothing", "--eval_strategy steps"),
        "hub_model_id": (not training.push_to_hub, "nothing is pushed", "--push_to_hub true"),
    }
    for name in flags:
        idles, reason, repair = idle.get(name, (False, "", ""))
        if idles:
            way = f"add {repair}, or leave it out" if repair else "leave it out"
            raise ValueError(f"--{name} would change nothing, as {reason}; {way}.")


_MORE_FLAGS = (
    "--optimizer adamw (the --optim of TrainingArguments) or muon (for matrices, beside AdamW), --muon_learning_rate, "
    "--full_decode, and every field of transformers.TrainingArguments are flags, too, such as --output_dir, "
    "--max_steps, --learning_rate, --per_device_train_batch_size, --lr_scheduler_type, --warmup_steps, --eval_steps, "
    "--save_strategy, --seed, --bf16, --torch_compile, --report_to and --push_to_hub; --help_all explains them all. "
    "Defaults are those of no recipe; examples/train.py without one reads examples/recipes/quickstart.yaml."
)


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage of 150 flags before it."""
        raise ValueError(f"{message}; see --help_all for all flags.")


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe: one flat YAML mapping from flag names to values."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"recipe {path} does not exist; see examples/recipes, or give flags only.") from error
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
