"""Data collators for a stock `transformers.Trainer`, or any loop that takes `input_ids`, `attention_mask`, `labels`.

    trainer = Trainer(model, TrainingArguments(..., remove_unused_columns=False),
                      train_dataset=tokenize(dataset, tokenizer), data_collator=TeacherlessCollator(tokenizer))

The tensors are those of the objectives of the same name; see there.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from nt_failures.layout import Example
from nt_failures.objectives.next_token import NextToken
from nt_failures.objectives.teacherless import Teacherless


class NextTokenCollator:
    """Prefix and revealed target as input, the target as labels. Example and tensors: `objectives.NextToken`.

    Args:
        tokenizer: gives the padding id.
        order: `"forward"` or `"reversed"`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, order: str = "forward"):
        self.objective = NextToken.from_tokenizer(tokenizer, order=order)

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Rows of `tokenize` to `input_ids`, `attention_mask`, `labels`, each (B, P + T)."""
        return self.objective.collate(examples)


class TeacherlessCollator:
    """Prefix and dummies as input, the target as labels. Example and tensors: `objectives.Teacherless`.

    Args:
        tokenizer: gives the padding id and the dummy `$`; `add_tokens(tokenizer, ["$"])` adds a missing one.
        order: `"forward"` or `"reversed"`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, order: str = "forward"):
        self.objective = Teacherless.from_tokenizer(tokenizer, order=order)

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Rows of `tokenize` to `input_ids`, `attention_mask`, `labels`, each (B, P + T)."""
        return self.objective.collate(examples)
