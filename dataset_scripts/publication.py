"""What is to be published: which configs, how many rows, in files of which size."""

import dataclasses
import importlib.metadata
import re
import shlex

import datasets
import matplotlib
import numpy as np
import pyarrow as pa
from datasets.utils.py_utils import convert_file_size_to_int
from huggingface_hub.utils import validate_repo_id

from nt_failures import registry
from nt_failures.data.builder import TaskBuilder
from nt_failures.data.registration import builder_class
from nt_failures.data.task_config import CHAT
from nt_failures.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Publication:
    """Everything that the published files depend on, beside the code.

    Args:
        configs: named configs, in the order of the card; empty stands for all of them.
        num_train, num_validation, num_test: rows; None is the config's own number.
        max_shard_size: a Parquet file holds at most this much, as in `Dataset.push_to_hub`: size in memory.
        repo_id: where it goes; the card names it. None is the name that `load_dataset` knows.
        task: a name of `TASKS`.

    Raises:
        ValueError: a task, a config or number that the builder does not take, a size or a repo id that is none.
    """

    configs: tuple[str, ...] = ()
    num_train: int | None = None
    num_validation: int | None = None
    num_test: int | None = None
    max_shard_size: str = "500MB"
    repo_id: str | None = None
    task: str = "path_star"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            near = registry.suggestion(self.task, [*TASKS])
            raise ValueError(f"{registry.shorten(self.task)} is no task.{near} Known: {', '.join(TASKS)}.")
        if self.repo_id is None:
            object.__setattr__(self, "repo_id", self.builder.REPO_ID)
        if chat := [builder.config.name for builder in self.builders() if builder.config.prompt_style == "chat"]:
            raise ValueError(f"{chat[0]} is made from rows with text; publish {chat[0].removesuffix(CHAT)}.")
        validate_repo_id(self.repo_id)
        if "/" not in self.repo_id:
            raise ValueError(f"repo_id={self.repo_id!r} has no owner; give it as OWNER/{self.repo_id}.")
        if not re.fullmatch(r"\d*[1-9]\d*[KMGT]i?B", self.max_shard_size, re.IGNORECASE):
            raise ValueError(f"max_shard_size={self.max_shard_size!r} is no size of a file; give one such as 500MB.")

    @property
    def builder(self) -> type[TaskBuilder]:
        """That of the task."""
        return builder_class(TASKS[self.task])

    @property
    def rows(self) -> dict[str, int]:
        """The numbers of rows that were given."""
        names = ("num_train", "num_validation", "num_test")
        return {name: vars(self)[name] for name in names if vars(self)[name] is not None}

    @property
    def shard_bytes(self) -> int:
        """`max_shard_size` in bytes."""
        return convert_file_size_to_int(self.max_shard_size)

    def builders(self) -> list[TaskBuilder]:
        """One builder per config, with the rows asked for."""
        names = dict.fromkeys(self.configs or self.builder.builder_configs)
        return [self.builder(config_name=name, **self.rows) for name in names]

    @property
    def command(self) -> str:
        """What to type for the same files: every option that is not the default."""
        words = ["python", "dataset_scripts/publish_pathstar.py"]
        for field in dataclasses.fields(self):
            value = vars(self)[field.name]
            if value != (self.builder.REPO_ID if field.name == "repo_id" else field.default):
                words += [f"--{field.name}", *(value if isinstance(value, tuple) else [str(value)])]
        return shlex.join(words)

    def made_with(self) -> dict[str, str]:
        """What the bytes depend on. Another pyarrow writes other Parquet, another matplotlib draws another figure."""
        return {
            "command": self.command,
            "nt_failures": importlib.metadata.version("nt_failures"),
            "version of the rows": self.builder.task_class.VERSION,
            "source hash": self.builder.source_hash(),
            "datasets": datasets.__version__,
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
            **({"matplotlib": matplotlib.__version__} if self.task == "path_star" else {}),
        }
