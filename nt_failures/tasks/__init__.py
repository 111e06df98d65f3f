"""Lookahead tasks: what a problem is and what counts as right. One task, one file."""

from nt_failures.tasks.base import Task
from nt_failures.tasks.path_star import PathStar

__all__ = ["PathStar", "Task"]
