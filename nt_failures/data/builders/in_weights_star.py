"""`load_dataset("nt_failures/in_weights_star")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.in_weights_star import InWeightsStar


class InWeightsStarBuilder(TaskBuilder):
    """One star that no prompt shows: `load_dataset("nt_failures/in_weights_star")`. See the task, `InWeightsStar`."""

    task_class = InWeightsStar
