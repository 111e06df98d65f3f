"""Whether a model, a tokenizer, rows and a loss fit an objective: a ValueError in place of torch's."""

import inspect
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nt_failures.data.batches import IGNORE
from nt_failures.data.token_dataset import TokenRows
from nt_failures.models.capabilities import capabilities
from nt_failures.models.compat import attention_kernel, is_recurrent
from nt_failures.models.load import check_length
from nt_failures.models.lora import has_adapter
from nt_failures.objectives.base import Objective, end_of
from nt_failures.objectives.losses import Batch, Loss
from nt_failures.registry import shorten


def check_needs(objective: Objective, model: PreTrainedModel) -> None:
    """ValueError unless the model is one of transformers, offers what the objective needs, computes logits of chosen
    columns, and has an adapter only on a base model that can be named.
    """
    if not isinstance(objective, Objective):
        raise ValueError(f"objective={objective!r} is none; give one, such as NextToken.from_tokenizer(tokenizer).")
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"{name} is no model of transformers; give that itself (LoRA: model.add_adapter(config)).")
    if has_adapter(model) and not model.name_or_path:
        way = "save it and load it from there before the adapter is added"
        raise ValueError(f"this {name} with an adapter was loaded from nowhere, and an adapter only names it; {way}.")
    if objective.needs and (missing := sorted(objective.needs - capabilities(model))):  # an unknown model is probed
        kernel = "" if is_recurrent(model) else f" with {attention_kernel(model)}"
        lacks = f"{type(objective).__name__} needs {', '.join(missing)}, which {name}{kernel} does not offer"
        way = "train it with an attention model (gpt2, gpt_neox, llama) and --attn_implementation sdpa"
        raise ValueError(f"{lacks}; {way}.")
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        others = "take a causal LM of transformers that does (GPT-2, GPT-NeoX, Llama, Mamba, ...)"
        raise ValueError(f"{name}.forward takes no logits_to_keep; {others}.")


def check_tokenizer(objective: Objective, tokenizer: PreTrainedTokenizerBase) -> None:
    """ValueError for an objective with the end of another tokenizer: a reversed target would begin with its own."""
    own, end = objective.end_token_id, end_of(tokenizer)
    if end is not None and own not in (None, end, tokenizer.eos_token_id):
        raise ValueError(
            f"the objective has end_token_id={own}, and the tokenizer {end}: it was built for another one; build it by "
            f"{type(objective).__name__}.from_tokenizer(tokenizer)."
        )


def check_room(objective: Objective, model: PreTrainedModel, rows: TokenRows) -> None:
    """ValueError unless the model has a position for each token of the longest row, and an embedding for each id."""
    prefixes, targets = (np.diff(rows.columns[name][1]) for name in ("prefix_ids", "target_ids"))
    own = {length: objective.added_columns(length) for length in np.unique(targets).tolist()}
    check_length(model, max(int((prefixes + targets)[targets == length].max()) + own[length] for length in own))
    of_objective = [getattr(objective, name) for name in (*objective.extra_tokens.values(), "pad_token_id")]
    largest = max(*of_objective, *(int(rows.columns[name][0].max(initial=0)) for name in ("prefix_ids", "target_ids")))
    check_ids(model, largest)


def check_batch(model: PreTrainedModel, batch: Batch) -> None:
    """As `check_room`, of a collated batch: of a stream no more is known."""
    own, columns = batch.get("position_ids"), batch["input_ids"].shape[1]
    check_length(model, columns if own is None else int(own.max()) + 1)
    check_ids(model, int(batch["input_ids"].max()))


def check_ids(model: PreTrainedModel, largest: int) -> None:
    """ValueError unless the model has an embedding for the largest id."""
    if largest >= (known := model.config.get_text_config().vocab_size):
        raise ValueError(
            f"rows or objective use the token id {largest}, and {type(model).__name__} knows ids below {known}. "
            "After adding tokens call model.resize_token_embeddings(len(tokenizer))."
        )


def check_loss(loss: Loss, batch: Batch, objective: str) -> None:
    """ValueError for a loss of another form, or with a count by which it would be logged, but not trained."""
    sums = [*loss[:2], *loss.parts.values()] if isinstance(loss, Loss) and isinstance(loss.parts, Mapping) else []
    if not sums or not all(isinstance(each, Tensor) and each.numel() == 1 for each in sums):
        raise ValueError(
            f"{objective}.loss returned {shorten(loss)}; return Loss(sum, count, parts): the sum over the items that "
            "count, how many they are, and named sums for the log ({} if there are none), each a tensor of one number."
        )
    if torch.is_grad_enabled() and not loss.sum.requires_grad:
        raise ValueError(f"{objective}.loss returned a sum without a gradient; make it of the model's own outputs.")
    labels = int((batch["labels"] != IGNORE).sum()) if "labels" in batch else int(loss.count)
    if int(loss.count) != labels:
        raise ValueError(
            f"{objective}.loss counts {int(loss.count)} items of a batch with {labels} labels, by which training "
            "divides; set the labels of all others to -100 in collate, and count the labels."
        )
