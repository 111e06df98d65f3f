"""`load_dataset("nt_failures/sort")`."""

from nt_failures.data.builder import TaskBuilder, named_configs
from nt_failures.tasks.sort import Sort


class SortBuilder(TaskBuilder):
    """Lists to sort or copy: `load_dataset("nt_failures/sort")`. See the task, `Sort`."""

    task_class = Sort
    REPO_ID = "nt_failures/sort"
    DEFAULT_CONFIG_NAME = Sort().config_name
    BUILDER_CONFIGS = named_configs(Sort)
