"""The parser of a run's flags, what --help says of them, and the nearest to a misspelt one."""

import argparse
import dataclasses
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from nt_failures.experiments.arguments import DataArguments, ModelArguments, ObjectiveArguments
from nt_failures.experiments.merging import OPTIONS
from nt_failures.models.families import FAMILIES
from nt_failures.registry import shorten, suggestion
from nt_failures.tasks import Task

OURS = [DataArguments, ModelArguments, ObjectiveArguments]
MEANT = {
    "lr": "learning_rate",
    "muon_lr": "muon_learning_rate",
    "batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "epochs": "num_train_epochs",
    "steps": "max_steps",
    "warmup": "warmup_steps",
    "labels": "num_nodes",
    "nodes": "num_nodes",
    "arms": "degree",
    "length": "path_length",
    "cpu": "use_cpu",
    "model_name_or_path": "model",
}
"""What other programs and the paper call a flag, where its own name is too far from that to be found."""

MORE = (
    "--optimizer adamw (the --optim of TrainingArguments) or muon (for matrices, beside AdamW), --muon_learning_rate, "
    "--full_decode, and every field of transformers.TrainingArguments are flags, too, such as --output_dir, "
    "--max_steps, --learning_rate, --per_device_train_batch_size, --lr_scheduler_type, --warmup_steps, --eval_steps, "
    "--save_strategy, --seed, --bf16, --torch_compile, --report_to and --push_to_hub; --help_all explains them all."
)


class Parser(HfArgumentParser):
    """A parser of the fields of dataclasses; no abbreviations, and errors in one line, which ends in `more`."""

    def __init__(self, classes: Sequence[type], prog: str | None = None, more: str = " See --help_all for all flags."):
        super().__init__(classes, prog=prog, allow_abbrev=False)
        self.more = more
        for field in (field for cls in classes for field in dataclasses.fields(cls)):
            if field.type is bool and field.default_factory is not dataclasses.MISSING:  # HfArgumentParser takes False
                self.set_defaults(**{field.name: field.default_factory()})

    def error(self, message: str) -> NoReturn:
        """One line, without the usage of 150 flags before it, with the nearest choice to a misspelt one."""
        wrong = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        near = suggestion(wrong[1], re.findall(r"[^', ]+", wrong[2])) if wrong else ""
        raise ValueError(f"{message}.{near}{self.more}")

    @property
    def names(self) -> list[str]:
        """Of all flags; --help and --recipe, which are taken off before, set nothing."""
        dests = [action.dest for action in self._actions]  # argparse has no public way to them
        return [name for name in dests if name not in ("help", "recipe")]

    def recipe_defaults(self, recipe: Mapping[str, Any], written: Mapping[str, str]) -> None:
        """Make a recipe's values the defaults; as text, so that numbers of a recipe are checked as those of flags.

        `written` are numbers, dates and truth values as they stand in a file (`hub.recipe.scalar_texts`).
        argparse checks no default: ValueError for one that is no choice, and for a null of what cannot be None.
        """
        own = {name: value for name, value in recipe.items() if name in self.names}
        for action in (action for action in self._actions if action.dest in own):
            value = own[action.dest]
            if action.type not in (int, float, string_to_bool):  # only text is as it is written
                value = own[action.dest] = written.get(action.dest, value)
            if value is None and action.default is not None and action.dest not in OPTIONS:
                self.error(f"argument --{action.dest}: null is no value of it; give one, or leave the line out")
            if value is not None and action.choices and str(value) not in map(str, action.choices):
                choices = ", ".join(repr(str(choice)) for choice in action.choices)
                self.error(f"argument --{action.dest}: invalid choice: '{value}' (choose from {choices})")
        self.set_defaults(**{name: str(v) if isinstance(v, (bool, int, float)) else v for name, v in own.items()})
        for action in self._actions:
            action.required = action.required and action.dest not in own


def parser_of(task_class: type[Task], more: type, prog: str | None = None) -> Parser:
    """A parser of a task's flags, ours and `more`; ValueError for a task that has a flag of every run."""
    try:
        parser = Parser([task_class, *OURS, more], prog=prog)
        parser.add_argument("--recipe", help=argparse.SUPPRESS)  # taken off before
        return parser
    except argparse.ArgumentError as error:
        flag = error.argument_name.split("/")[0].lstrip("-")
        raise ValueError(
            f"{task_class.__name__} has a field {flag!r}, which is a flag of every run; give the field another name, "
            "or, where the class is not yours, train on it in Python (ntf.ObjectiveTrainer), which has no flags."
        ) from error


def check_known(where: str, names: Sequence[str], known: Collection[str], recipe: Mapping[str, Any]) -> None:
    """ValueError for a name that is no flag, with what it may have been meant for."""
    for name in names:
        if name not in known:
            near = _near(name, known, recipe)
            raise ValueError(f"{where}: unknown name {shorten(name)}.{near} See --help_all for all names.")


def _near(name: str, known: Collection[str], recipe: Mapping[str, Any]) -> str:
    if (meant := MEANT.get(name)) in known:
        return f" Did you mean {meant!r}?"
    of_model = {field: 1 for build in FAMILIES.values() for field in build(1, 64, 1)}
    for option in OPTIONS:
        keys = recipe.get(option)
        if name in (keys if isinstance(keys, dict) else {}) or (option == "config_overrides" and name in of_model):
            return f" Did you mean --{option} '{{\"{name}\": ...}}'?"
    return suggestion(name, list(known))


def show_help(
    parser: Parser, task_class: type[Task], recipe: Mapping[str, Any], written: Mapping[str, str], where: str
) -> NoReturn:
    """Print all flags of a parser with the defaults of the run that would start, and end the program."""
    parser.recipe_defaults(recipe, written)
    told = _told(task_class)
    for action in parser._actions:
        if action.help is None:
            action.help = told.get(action.dest, f"Of {task_class.__name__}.").replace("%", "%%")
    others = ", ".join(f"{name}={value}" for name, value in recipe.items() if name not in parser.names)
    sets = f" The {where} sets, beside the defaults above: {others}." if others else ""
    parser.epilog = f"{MORE}{sets}".replace("%", "%%")
    parser.print_help()
    parser.exit()


def _told(cls: type) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of its fields, under `Args:`."""
    told = {}
    for base in reversed(cls.__mro__):
        section = re.search(r"^Args:\n((?: +.*\n?)+)", inspect.cleandoc(base.__doc__ or ""), flags=re.MULTILINE)
        lines = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", flags=re.MULTILINE)
        told |= {name: " ".join(text.split()) for name, text in lines}
    return told
