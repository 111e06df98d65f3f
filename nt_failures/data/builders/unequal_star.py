"""`load_dataset("nt_failures/unequal_star")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.unequal_star import UnequalStar


class UnequalStarBuilder(TaskBuilder):
    """Stars of unequal arms: `load_dataset("nt_failures/unequal_star")`. See the task, `UnequalStar`."""

    task_class = UnequalStar
