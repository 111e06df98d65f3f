"""Training objectives: how prompt and answer are shown to a model, trained and decoded. One objective, one file."""

from collections.abc import Mapping
from typing import Any

from nt_failures import registry
from nt_failures.objectives.base import Objective
from nt_failures.objectives.belief_state import BeliefState
from nt_failures.objectives.future_bag import FutureBag
from nt_failures.objectives.future_summary import FutureSummary
from nt_failures.objectives.hybrid import Hybrid
from nt_failures.objectives.insertion import Insertion
from nt_failures.objectives.joint_multi_token import JointMultiToken
from nt_failures.objectives.lookahead_tokens import LookaheadTokens
from nt_failures.objectives.losses import Loss as Loss
from nt_failures.objectives.lse_mtp import LseMtp
from nt_failures.objectives.masked_diffusion import MaskedDiffusion
from nt_failures.objectives.masked_teacher import MaskedTeacher
from nt_failures.objectives.multi_token_heads import MultiTokenHeads
from nt_failures.objectives.next_latent import NextLatent
from nt_failures.objectives.next_token import NextToken
from nt_failures.objectives.options import option as option
from nt_failures.objectives.registers import Registers
from nt_failures.objectives.ritf import Ritf
from nt_failures.objectives.semformer import Semformer
from nt_failures.objectives.sequential_heads import SequentialHeads
from nt_failures.objectives.teacherless import Teacherless
from nt_failures.objectives.token_order import TokenOrder
from nt_failures.objectives.uniform_mask import UniformMask

OBJECTIVES: dict[str, type[Objective]] = {
    "belief_state": BeliefState,
    "future_bag": FutureBag,
    "future_summary": FutureSummary,
    "hybrid": Hybrid,
    "insertion": Insertion,
    "joint_multi_token": JointMultiToken,
    "lookahead_tokens": LookaheadTokens,
    "lse_mtp": LseMtp,
    "masked_diffusion": MaskedDiffusion,
    "masked_teacher": MaskedTeacher,
    "multi_token_heads": MultiTokenHeads,
    "next_latent": NextLatent,
    "next_token": NextToken,
    "registers": Registers,
    "ritf": Ritf,
    "semformer": Semformer,
    "sequential_heads": SequentialHeads,
    "teacherless": Teacherless,
    "token_order": TokenOrder,
    "uniform_mask": UniformMask,
}
"""Objectives by their command-line names, each the name of its file."""


def find_objective(name: str, from_file: bool = False) -> type[Objective]:
    """The objective of a name, or of a dotted path to your own class; errors as in `registry.find`.

    Example:
        >>> find_objective("teacherless")
        <class 'nt_failures.objectives.teacherless.Teacherless'>
    """
    return registry.find(OBJECTIVES, Objective, name, from_file)


def read_objective(values: Mapping[str, Any]) -> Objective:
    """Rebuild what `Objective.to_dict` wrote; a class of your own must be imported already.

    Raises:
        OtherDefinition: one that was defined otherwise when it was written.
        ValueError: an option that it does not take.

    Example:
        >>> read_objective({"objective": "next_token", "order": "reversed"}).order
        'reversed'
    """
    options = dict(values)
    name, version = options.pop("objective"), options.pop("version", 1)
    objective = find_objective(name, from_file=True)
    if version != objective.VERSION:
        raise registry.OtherDefinition(
            f"it was trained under version {version} of {name}, and {name} is version {objective.VERSION} now, another "
            "definition; train it again, or load it with the nt_failures that trained it."
        )
    return objective(**options)
