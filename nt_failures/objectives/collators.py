"""Data collators for a stock `transformers.Trainer`, or any loop that takes `input_ids`, `attention_mask`, `labels`.

    trainer = Trainer(model, TrainingArguments(..., remove_unused_columns=False),
                      train_dataset=tokenize(dataset, tokenizer), data_collator=TeacherlessCollator(tokenizer))

TRL's `SFTTrainer` takes them, too, if it leaves tokenised rows as they are (examples/README.md).
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from nt_failures.data.batches import Example
from nt_failures.objectives.base import Objective
from nt_failures.objectives.next_token import NextToken
from nt_failures.objectives.teacherless import Teacherless


class NextTokenCollator:
    """Prefix and revealed target as input, the target as labels: the tensors of `NextToken`.

    Args:
        tokenizer: gives the padding id.
        order: `"forward"` or `"reversed"`.

    Example:
        >>> from nt_failures import NextTokenCollator, PathStar, word_level_tokenizer
        >>> collate = NextTokenCollator(word_level_tokenizer(PathStar(2, 3, 10)))
        >>> collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
    """

    objective_class: ClassVar[type[Objective]] = NextToken

    def __init__(self, tokenizer: PreTrainedTokenizerBase, order: str = "forward"):
        self.objective = self.objective_class.from_tokenizer(tokenizer, order=order)

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Rows of `tokenize` to `input_ids`, `attention_mask`, `labels`, each (B, P + T)."""
        return self.objective.collate(examples)


class TeacherlessCollator(NextTokenCollator):
    """Prefix and dummies `$` as input, the target as labels: the tensors of `Teacherless`.

    `add_tokens(tokenizer, ["$"])` adds a missing dummy.

    Example:
        >>> from nt_failures import PathStar, TeacherlessCollator, word_level_tokenizer
        >>> collate = TeacherlessCollator(word_level_tokenizer(PathStar(2, 3, 10)))
        >>> collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])["input_ids"].tolist()
        [[1, 2, 13, 13, 13]]
    """

    objective_class = Teacherless
