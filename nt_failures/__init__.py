"""Next-token failures: lookahead tasks, multi-token objectives and a diagnosis for Hugging Face causal LMs.

Importing it teaches `datasets.load_dataset` the names of this library, such as "nt_failures/pathstar". Torch and
transformers are imported when a name that needs them is first used.

Here are the names that most uses need; the folders, in the order in which they build on each other, are
`nt_failures.tasks`, `nt_failures.data`, `nt_failures.models`, `nt_failures.objectives`, `nt_failures.evaluation`,
`nt_failures.diagnosis`, `nt_failures.hub`, `nt_failures.training` and `nt_failures.experiments`.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"


class _ByName(ModuleType):
    """This package and its modules, pickled by name.

    Else dill, by which `datasets` hashes a function, pickles a module that the function names with all that it holds,
    unless it lies in site-packages.
    """

    def __reduce__(self) -> tuple:
        return importlib.import_module, (self.__name__,)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if isinstance(value, ModuleType):  # imported just now, and with it perhaps modules below it
            for module_name, module in list(sys.modules.items()):
                if module_name.partition(".")[0] == __name__ and isinstance(module, ModuleType):
                    module.__class__ = _ByName


sys.modules[__name__].__class__ = _ByName

from nt_failures.data.registration import register  # noqa: E402, its modules are to be of that class

if TYPE_CHECKING:  # for editors and type checkers
    from nt_failures.data.builder import PathStarBuilder as PathStarBuilder
    from nt_failures.data.lines import load_lines as load_lines
    from nt_failures.data.tokenizer import add_tokens as add_tokens
    from nt_failures.data.tokenizer import tokenize as tokenize
    from nt_failures.data.tokenizer import word_level_tokenizer as word_level_tokenizer
    from nt_failures.diagnosis import diagnose as diagnose
    from nt_failures.evaluation.api_predictor import ApiPredictor as ApiPredictor
    from nt_failures.evaluation.predictor import ModelPredictor as ModelPredictor
    from nt_failures.evaluation.rewards import reward_exact_answer as reward_exact_answer
    from nt_failures.evaluation.rewards import reward_exact_path as reward_exact_path
    from nt_failures.evaluation.rewards import reward_valid_prefix as reward_valid_prefix
    from nt_failures.hub.load import load as load
    from nt_failures.models.load import load_model as load_model
    from nt_failures.objectives import BeliefState as BeliefState
    from nt_failures.objectives import FutureBag as FutureBag
    from nt_failures.objectives import FutureSummary as FutureSummary
    from nt_failures.objectives import Hybrid as Hybrid
    from nt_failures.objectives import Insertion as Insertion
    from nt_failures.objectives import JointMultiToken as JointMultiToken
    from nt_failures.objectives import LookaheadTokens as LookaheadTokens
    from nt_failures.objectives import LseMtp as LseMtp
    from nt_failures.objectives import MaskedDiffusion as MaskedDiffusion
    from nt_failures.objectives import MaskedTeacher as MaskedTeacher
    from nt_failures.objectives import MultiTokenHeads as MultiTokenHeads
    from nt_failures.objectives import NextLatent as NextLatent
    from nt_failures.objectives import NextToken as NextToken
    from nt_failures.objectives import Objective as Objective
    from nt_failures.objectives import Registers as Registers
    from nt_failures.objectives import Ritf as Ritf
    from nt_failures.objectives import Semformer as Semformer
    from nt_failures.objectives import SequentialHeads as SequentialHeads
    from nt_failures.objectives import Teacherless as Teacherless
    from nt_failures.objectives import TokenOrder as TokenOrder
    from nt_failures.objectives import UniformMask as UniformMask
    from nt_failures.objectives.collators import NextTokenCollator as NextTokenCollator
    from nt_failures.objectives.collators import TeacherlessCollator as TeacherlessCollator
    from nt_failures.objectives.drafting import acceptance_rate as acceptance_rate
    from nt_failures.tasks import PathStar as PathStar
    from nt_failures.tasks import Task as Task
    from nt_failures.training.arguments import ObjectiveTrainingArguments as ObjectiveTrainingArguments
    from nt_failures.training.trainer import ObjectiveTrainer as ObjectiveTrainer

register()

_NAMES = {
    "data.builder": "PathStarBuilder",
    "data.lines": "load_lines",
    "data.tokenizer": "add_tokens tokenize word_level_tokenizer",
    "diagnosis": "diagnose",
    "evaluation.api_predictor": "ApiPredictor",
    "evaluation.predictor": "ModelPredictor",
    "evaluation.rewards": "reward_exact_answer reward_exact_path reward_valid_prefix",
    "hub.load": "load",
    "models.load": "load_model",
    "objectives": "BeliefState FutureBag FutureSummary Hybrid Insertion JointMultiToken LookaheadTokens LseMtp "
    "MaskedDiffusion MaskedTeacher MultiTokenHeads NextLatent NextToken Objective Registers Ritf Semformer "
    "SequentialHeads Teacherless TokenOrder UniformMask",
    "objectives.collators": "NextTokenCollator TeacherlessCollator",
    "objectives.drafting": "acceptance_rate",
    "tasks": "PathStar Task",
    "training.arguments": "ObjectiveTrainingArguments",
    "training.trainer": "ObjectiveTrainer",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
"""The module below this package that each public name is imported from, when it is first used."""
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'nt_failures' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nt_failures.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
