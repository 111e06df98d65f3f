"""`load_dataset("nt_failures/unequal_star")`."""

from nt_failures.data.builder import TaskBuilder, named_configs
from nt_failures.tasks.unequal_star import UnequalStar


class UnequalStarBuilder(TaskBuilder):
    """Stars of unequal arms: `load_dataset("nt_failures/unequal_star")`. See the task, `UnequalStar`."""

    task_class = UnequalStar
    REPO_ID = "nt_failures/unequal_star"
    DEFAULT_CONFIG_NAME = UnequalStar().config_name
    BUILDER_CONFIGS = named_configs(UnequalStar)
