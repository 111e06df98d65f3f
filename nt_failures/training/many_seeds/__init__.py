"""Many seeds of one recipe in one process: their weights stand in one tensor each, and every step is taken for all at once."""

from nt_failures.training.many_seeds.loop import train_together
from nt_failures.training.many_seeds.stack import Stack

__all__ = ["Stack", "train_together"]
