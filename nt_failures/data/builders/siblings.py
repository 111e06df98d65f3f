"""`load_dataset("nt_failures/siblings")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.siblings import Siblings


class SiblingsBuilder(TaskBuilder):
    """Siblings and their parent, of a fixed graph: `load_dataset("nt_failures/siblings")`. See the task, `Siblings`."""

    task_class = Siblings
