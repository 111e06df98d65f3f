"""`load_dataset("nt_failures/hops")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.hops import Hops


class HopsBuilder(TaskBuilder):
    """Steps along a cycle: `load_dataset("nt_failures/hops")`. See the task, `Hops`."""

    task_class = Hops
