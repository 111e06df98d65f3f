"""`load_dataset("nt_failures/siblings")`."""

from nt_failures.data.builder import TaskBuilder, named_configs
from nt_failures.tasks.siblings import Siblings


class SiblingsBuilder(TaskBuilder):
    """Siblings and their parent, of a fixed graph: `load_dataset("nt_failures/siblings")`. See the task, `Siblings`."""

    task_class = Siblings
    REPO_ID = "nt_failures/siblings"
    DEFAULT_CONFIG_NAME = Siblings().config_name
    BUILDER_CONFIGS = named_configs(Siblings)
