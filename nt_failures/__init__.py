"""Next-token failures: lookahead tasks, multi-token objectives and a diagnosis for Hugging Face causal LMs."""

import importlib

from nt_failures.data.registration import register

register()

# Public names and their modules; torch and transformers are imported when one of theirs is first used.
_PUBLIC = {
    "Hybrid": "objectives",
    "MaskedTeacher": "objectives",
    "NextToken": "objectives",
    "NextTokenCollator": "objectives.collators",
    "Objective": "objectives",
    "ObjectiveTrainer": "training.trainer",
    "ObjectiveTrainingArguments": "training.arguments",
    "PathStar": "tasks",
    "PathStarBuilder": "data.builder",
    "Task": "tasks",
    "Teacherless": "objectives",
    "TeacherlessCollator": "objectives.collators",
    "add_tokens": "data.tokenizer",
    "diagnose": "diagnosis",
    "load": "hub.load",
    "load_model": "models.load",
    "ModelPredictor": "evaluation.predictor",
    "reward_exact_path": "evaluation.rewards",
    "reward_valid_prefix": "evaluation.rewards",
    "tokenize": "data.tokenizer",
    "word_level_tokenizer": "data.tokenizer",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nt_failures' has no attribute {name!r}")
    value = vars(importlib.import_module(f"nt_failures.{_PUBLIC[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
