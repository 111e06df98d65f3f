"""`load_dataset("nt_failures/hops")`."""

from nt_failures.data.builder import TaskBuilder, named_configs
from nt_failures.tasks.hops import Hops


class HopsBuilder(TaskBuilder):
    """Steps along a cycle: `load_dataset("nt_failures/hops")`. See the task, `Hops`."""

    task_class = Hops
    REPO_ID = "nt_failures/hops"
    DEFAULT_CONFIG_NAME = Hops().config_name
    BUILDER_CONFIGS = named_configs(Hops)
