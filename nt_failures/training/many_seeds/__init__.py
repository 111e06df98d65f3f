"""Many seeds of one recipe in one process: their weights stand in one tensor each, and every step is taken for all at once."""

from nt_failures.training.many_seeds.stack import Stack
from nt_failures.training.many_seeds.together import train_together

__all__ = ["Stack", "train_together"]
