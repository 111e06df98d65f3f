"""`load_dataset("nt_failures/countdown")`."""

from nt_failures.data.builder import TaskBuilder
from nt_failures.tasks.countdown import Countdown


class CountdownBuilder(TaskBuilder):
    """Equations that give a target: `load_dataset("nt_failures/countdown")`. See the task, `Countdown`."""

    task_class = Countdown
