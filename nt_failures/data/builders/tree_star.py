"""`load_dataset("nt_failures/tree_star")`."""

from nt_failures.data.builder import TaskBuilder, named_configs
from nt_failures.tasks.tree_star import TreeStar


class TreeStarBuilder(TaskBuilder):
    """Stars whose arms branch: `load_dataset("nt_failures/tree_star")`. See the task, `TreeStar`."""

    task_class = TreeStar
    REPO_ID = "nt_failures/tree_star"
    DEFAULT_CONFIG_NAME = TreeStar().config_name
    BUILDER_CONFIGS = named_configs(TreeStar)
