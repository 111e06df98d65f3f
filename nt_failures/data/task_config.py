"""TaskConfig: which size of a task and which rows of it; the knobs of `load_dataset` that every task has."""

import dataclasses

import datasets

from nt_failures.tasks.base import SPLITS, Task, check_integers


@dataclasses.dataclass(kw_only=True)
class TaskConfig(datasets.BuilderConfig):
    """One size of a task, and which rows of it. The fields are keywords of `load_dataset`, beside the task's own.

    Args:
        task: the task. It gives `name` (its `config_name`, which must tell all its knobs apart) and `version`.
        num_train: rows of the train split; None is an endless split, for streaming only.
        num_validation: rows of the validation split. A split without rows is left out.
        num_test: rows of the test split.
        seed: which stream of rows, an integer >= 0. Splits are disjoint between different seeds, too.
        overlap: `"forbid"` for disjoint splits, `"allow"` to draw each split from all instances.

    Raises:
        ValueError: a value is not allowed; the message states it, the rule and the repair.
    """

    task: Task
    num_train: int | None = 200_000
    num_validation: int = 0
    num_test: int = 20_000
    seed: int = 0
    overlap: str = "forbid"

    def __post_init__(self) -> None:
        least = {"num_train": 0, "num_validation": 0, "num_test": 0, "seed": 0}
        if self.num_train is None:
            del least["num_train"]
        check_integers(self, **least)
        for knob in least:  # numpy's integers would be another cache folder than Python's
            vars(self)[knob] = int(vars(self)[knob])
        if self.overlap not in ("forbid", "allow"):
            raise ValueError(
                f"overlap={self.overlap!r} is not a choice; give 'forbid' (disjoint splits) or 'allow' (each split is "
                "drawn from all instances)."
            )
        if not self.num_rows:
            raise ValueError("num_train=0, num_validation=0, num_test=0 leaves no split; give one of them rows.")
        self.name = self.task.config_name
        self.version = datasets.Version(self.task.VERSION)
        super().__post_init__()

    @property
    def num_rows(self) -> dict[str, int | None]:
        """Rows of each split that has any, in the order train, validation, test."""
        rows = {split: vars(self)[f"num_{split}"] for split in SPLITS}
        return {split: count for split, count in rows.items() if count != 0}

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name of the cache folder: `name`, and the knobs that differ from their defaults, however they were given."""
        del config_kwargs
        changed = {knob: vars(self)[knob] for knob, default in DATA_KNOBS.items() if vars(self)[knob] != default}
        return super().create_config_id(changed, custom_features)


_NO_KNOBS = {"task", *(field.name for field in dataclasses.fields(datasets.BuilderConfig))}
DATA_KNOBS = {f.name: f.default for f in dataclasses.fields(TaskConfig) if f.name not in _NO_KNOBS}
"""The knobs that choose rows, with their defaults."""
