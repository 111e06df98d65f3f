"""Next-token failures: lookahead tasks, multi-token objectives and a diagnosis for Hugging Face causal LMs.

Importing it teaches `datasets.load_dataset` the names of this library, such as "nt_failures/pathstar". Torch and
transformers are imported when a name that needs them is first used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING


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

if TYPE_CHECKING:  # the names of __all__, for editors and type checkers
    from nt_failures.data.builder import PathStarBuilder
    from nt_failures.data.tokenizer import add_tokens, tokenize, word_level_tokenizer
    from nt_failures.diagnosis import diagnose
    from nt_failures.evaluation.predictor import ModelPredictor
    from nt_failures.evaluation.rewards import reward_exact_path, reward_valid_prefix
    from nt_failures.hub.load import load
    from nt_failures.models.load import load_model
    from nt_failures.objectives import (
        BeliefState,
        FutureBag,
        FutureSummary,
        Hybrid,
        Insertion,
        JointMultiToken,
        LookaheadTokens,
        LseMtp,
        MaskedDiffusion,
        MaskedTeacher,
        MultiTokenHeads,
        NextLatent,
        NextToken,
        Objective,
        Registers,
        Ritf,
        Semformer,
        SequentialHeads,
        Teacherless,
        TokenOrder,
        UniformMask,
    )
    from nt_failures.objectives.collators import NextTokenCollator, TeacherlessCollator
    from nt_failures.objectives.drafting import acceptance_rate
    from nt_failures.tasks import PathStar, Task
    from nt_failures.training.arguments import ObjectiveTrainingArguments
    from nt_failures.training.trainer import ObjectiveTrainer

register()

__all__ = [
    "BeliefState",
    "FutureBag",
    "FutureSummary",
    "Hybrid",
    "Insertion",
    "JointMultiToken",
    "LookaheadTokens",
    "LseMtp",
    "MaskedDiffusion",
    "MaskedTeacher",
    "ModelPredictor",
    "MultiTokenHeads",
    "NextLatent",
    "NextToken",
    "NextTokenCollator",
    "Objective",
    "ObjectiveTrainer",
    "ObjectiveTrainingArguments",
    "PathStar",
    "PathStarBuilder",
    "Registers",
    "Ritf",
    "Semformer",
    "SequentialHeads",
    "Task",
    "Teacherless",
    "TeacherlessCollator",
    "TokenOrder",
    "UniformMask",
    "acceptance_rate",
    "add_tokens",
    "diagnose",
    "load",
    "load_model",
    "reward_exact_path",
    "reward_valid_prefix",
    "tokenize",
    "word_level_tokenizer",
]

_MODULES = dict.fromkeys(__all__, "objectives") | {
    "ModelPredictor": "evaluation.predictor",
    "NextTokenCollator": "objectives.collators",
    "ObjectiveTrainer": "training.trainer",
    "ObjectiveTrainingArguments": "training.arguments",
    "PathStar": "tasks",
    "PathStarBuilder": "data.builder",
    "Task": "tasks",
    "TeacherlessCollator": "objectives.collators",
    "acceptance_rate": "objectives.drafting",
    "add_tokens": "data.tokenizer",
    "diagnose": "diagnosis",
    "load": "hub.load",
    "load_model": "models.load",
    "reward_exact_path": "evaluation.rewards",
    "reward_valid_prefix": "evaluation.rewards",
    "tokenize": "data.tokenizer",
    "word_level_tokenizer": "data.tokenizer",
}
"""The module below this package that each public name is imported from, when it is first used."""


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'nt_failures' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nt_failures.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
