"""Training objectives: how (prefix, target) is shown to a model and its prediction read. One objective, one file."""

from nt_failures.objectives.base import Loss, Objective
from nt_failures.objectives.hybrid import Hybrid
from nt_failures.objectives.masked_teacher import MaskedTeacher
from nt_failures.objectives.next_token import NextToken
from nt_failures.objectives.teacherless import Teacherless

__all__ = ["Hybrid", "Loss", "MaskedTeacher", "NextToken", "Objective", "Teacherless"]
