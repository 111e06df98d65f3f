"""The config of any task's data set: its size, and which rows of it."""

import dataclasses
import math

import datasets

from nt_failures.data.columns import PROMPT_STYLES
from nt_failures.registry import check_choice, plural
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import OVERLAPS, SPLITS, check_integer, split_share

CHAT = "-chat"
"""Behind the name of a config: the same rows as messages, for tools that pass no keyword on."""


@dataclasses.dataclass(kw_only=True)
class TaskConfig(datasets.BuilderConfig):
    """One size of a task, and which rows of it. The fields are keywords of `load_dataset`, beside the task's own.

    Args:
        task: the task. It gives `name` (its `config_name`, which must tell all its parameters apart) and `version`.
        num_train: rows of the train split; None is an endless split, for streaming only.
        num_validation: rows of the validation split. A split without rows is left out.
        num_test: rows of the test split.
        seed: which stream of rows, an integer >= 0. Splits are disjoint between different seeds, too.
        overlap: `"forbid"` for disjoint splits, `"allow"` to draw each split from all instances.
        prompt_style: `"text"`, or `"chat"` for prompts and completions as messages, with the question in words and the
            answer between `<answer>` and `</answer>`.

    Raises:
        ValueError: a value is not allowed; the message states it, the rule and the repair.
    """

    task: Task
    num_train: int | None = 200_000
    num_validation: int = 0
    num_test: int = 20_000
    seed: int = 0
    overlap: str = "forbid"
    prompt_style: str = "text"

    def __post_init__(self) -> None:
        for name in ("num_train", "num_validation", "num_test", "seed"):
            value = getattr(self, name)
            if name != "num_train" or value is not None:
                check_integer(name, value)
                setattr(self, name, int(value))  # NumPy's integers would be another cache folder than Python's
        check_choice("overlap", self.overlap, OVERLAPS)
        if not self.num_rows:
            raise ValueError("num_train=0, num_validation=0, num_test=0 leaves no split; give one of them rows.")
        check_choice("prompt_style", self.prompt_style, PROMPT_STYLES)
        self.name = self.task.config_name + CHAT * (self.prompt_style == "chat")
        self.version = datasets.Version(self.task.VERSION)
        super().__post_init__()

    @property
    def num_rows(self) -> dict[str, int | None]:
        """Rows of each split that has any, in the order train, validation, test."""
        rows = {split: getattr(self, f"num_{split}") for split in SPLITS}
        return {split: count for split, count in rows.items() if count != 0}

    @property
    def num_problems(self) -> dict[str, float]:
        """About how many different problems each split with rows has to draw from; infinite where it is not known.

        It is not known of a train split that has more than is asked.
        """
        own = {"train"} if type(self.task).train_sample is not Task.train_sample else set()
        # Where a problem has many answers, it is these that belong to splits.
        alike = self.overlap == "allow" or self.task.num_answers is not None
        share = {split: 1.0 if alike else split_share(split) for split in self.num_rows}
        problems = self.task.num_problems
        problems = problems if problems < 1e300 else math.inf  # a larger whole number is no float
        return {split: math.inf if split in own else max(1.0, share[split] * problems) for split in self.num_rows}

    def too_small(self) -> list[str]:
        """A sentence for each split that repeats its problems because the task has too few."""
        words, problems = self.task.words, self.num_problems
        return [
            f"{split}: {rows:,} rows of only about {plural(problems[split], f'different {words.problem}')}, so each "
            f"comes about {rows / problems[split]:,.0f} times; every n counts different {words.problem}s."
            for split, rows in self.num_rows.items()
            if rows is not None and rows > 1.5 * problems[split]
        ]

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name of the cache folder: `name`, and the parameters that differ from their defaults, however given."""
        del config_kwargs
        changed = {name: getattr(self, name) for name in _ROWS if getattr(self, name) != _ROWS[name]}
        return super().create_config_id(changed, custom_features)


_ROWS = {name: getattr(TaskConfig, name) for name in (*(f"num_{split}" for split in SPLITS), "seed", "overlap")}
DEFAULTS = {**_ROWS, "prompt_style": TaskConfig.prompt_style}
"""The parameters that choose rows and their form, with their defaults."""
