"""Many seeds of one recipe trained in one process, in one pass over a stack of their weights."""

from nt_failures.training.many_seeds.loop import train_together
from nt_failures.training.many_seeds.stack import Stack

__all__ = ["Stack", "train_together"]
