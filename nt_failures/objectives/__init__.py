"""Training objectives: how (prefix, target) is shown to a model and its prediction read. One objective, one file."""

from nt_failures.objectives.base import Loss, Objective
from nt_failures.objectives.belief_state import BeliefState
from nt_failures.objectives.future_bag import FutureBag
from nt_failures.objectives.hybrid import Hybrid
from nt_failures.objectives.joint_multi_token import JointMultiToken
from nt_failures.objectives.masked_diffusion import MaskedDiffusion
from nt_failures.objectives.masked_teacher import MaskedTeacher
from nt_failures.objectives.multi_token_heads import MultiTokenHeads
from nt_failures.objectives.next_latent import NextLatent
from nt_failures.objectives.next_token import NextToken
from nt_failures.objectives.registers import Registers
from nt_failures.objectives.teacherless import Teacherless
from nt_failures.objectives.token_order import TokenOrder

__all__ = [
    "BeliefState",
    "FutureBag",
    "Hybrid",
    "JointMultiToken",
    "Loss",
    "MaskedDiffusion",
    "MaskedTeacher",
    "MultiTokenHeads",
    "NextLatent",
    "NextToken",
    "Objective",
    "Registers",
    "Teacherless",
    "TokenOrder",
]
