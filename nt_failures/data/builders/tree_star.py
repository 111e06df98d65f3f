"""`load_dataset("nt_failures/tree_star")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.tree_star import TreeStar


class TreeStarBuilder(TaskBuilder):
    """Stars whose arms branch: `load_dataset("nt_failures/tree_star")`. See the task, `TreeStar`."""

    task_class = TreeStar
