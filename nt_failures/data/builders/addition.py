"""`load_dataset("nt_failures/addition")`."""

from nt_failures.data.builder import TaskBuilder, named_configs
from nt_failures.tasks.addition import Addition


class AdditionBuilder(TaskBuilder):
    """Sums: `load_dataset("nt_failures/addition")`. See the task, `Addition`."""

    task_class = Addition
    REPO_ID = "nt_failures/addition"
    DEFAULT_CONFIG_NAME = Addition().config_name
    BUILDER_CONFIGS = named_configs(Addition)
