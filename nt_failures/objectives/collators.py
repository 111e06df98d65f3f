"""Data collators for a stock `transformers.Trainer`, or any loop that takes `input_ids`, `attention_mask`, `labels`.

    trainer = Trainer(model, TrainingArguments(..., remove_unused_columns=False),
                      train_dataset=tokenize(dataset, tokenizer), data_collator=TeacherlessCollator(tokenizer))

The tensors are those of the objectives of the same name; see there. TRL's `SFTTrainer` takes them, too, on tokenised rows
that it leaves as they are:

    trainer = SFTTrainer(model, SFTConfig(..., dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False),
                         train_dataset=tokenize(dataset, tokenizer), data_collator=TeacherlessCollator(tokenizer),
                         processing_class=tokenizer)

For next-token training it needs no collator of ours: it takes the `prompt` and `completion` of the dataset as they are, trains
on the completion alone, and appends the tokenizer's end token to it, one label more than `NextTokenCollator` has.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from nt_failures.data.batches import Example
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
