"""`load_dataset("nt_failures/sort")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.sort import Sort


class SortBuilder(TaskBuilder):
    """Lists to sort or copy: `load_dataset("nt_failures/sort")`. See the task, `Sort`."""

    task_class = Sort
