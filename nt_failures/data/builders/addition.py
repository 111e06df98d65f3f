"""`load_dataset("nt_failures/addition")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.addition import Addition


class AdditionBuilder(TaskBuilder):
    """Sums: `load_dataset("nt_failures/addition")`. See the task, `Addition`."""

    task_class = Addition
