"""Reading predictions from a model: one pass with the targets revealed, one pass behind dummies, or token by token."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from nt_failures.data.batches import IGNORE, position_ids

Prefix = tuple[Tensor, Tensor]
"""Ids and mask of prefixes, each (B, P), padded on the left."""


def answer_columns(lengths_B: Tensor) -> Tensor:
    """Which target columns hold an answer of these lengths, (B, T) booleans."""
    return torch.arange(int(lengths_B.max()), device=lengths_B.device) < lengths_B[:, None]


def insert_tokens(prefix: Prefix, tokens: int, given: int | Tensor = 0) -> Prefix:
    """The prefix with `tokens` of an objective's own in front of its last `given` ones, one number or (B,).

    Their ids are -1, -2, .., which no tokenizer has.
    """
    ids, mask = prefix
    start_B1 = ids.shape[1] - torch.as_tensor(given, device=ids.device).expand(len(ids))[:, None]
    columns_S = torch.arange(ids.shape[1] + tokens, device=ids.device)
    behind_BS = columns_S - start_B1
    own_BS = (behind_BS >= 0) & (behind_BS < tokens)
    source_BS = (columns_S - behind_BS.clamp(0, tokens)).clamp(max=ids.shape[1] - 1)
    return ids.gather(1, source_BS).where(~own_BS, -1 - behind_BS), mask.gather(1, source_BS).where(~own_BS, 1)


def revealing_inputs(prefix_ids: Tensor, prefix_mask: Tensor, shown_BT: Tensor) -> dict[str, Tensor]:
    """Inputs of a pass over prefix | shown without the last column; -100 in `shown_BT` marks empty columns.

    With `position_ids` where rows are padded on the left.
    """
    real_BT = shown_BT.ne(IGNORE)
    ids = torch.cat([prefix_ids, shown_BT.where(real_BT, prefix_ids[:, -1:])], dim=1)[:, :-1]
    mask = torch.cat([prefix_mask, real_BT.to(prefix_mask.dtype)], dim=1)[:, :-1]
    inputs = {"input_ids": ids, "attention_mask": mask}
    return inputs if bool(mask[:, 0].all()) else inputs | {"position_ids": position_ids(mask)}


def greedy(logits_BTV: Tensor, shown_BT: Tensor) -> Tensor:
    """The best tokens (B, T), -100 in the empty columns of `shown_BT`."""
    return logits_BTV.argmax(dim=-1).where(shown_BT.ne(IGNORE), IGNORE)


@torch.no_grad()
def one_pass_logits(model: torch.nn.Module, prefix_ids: Tensor, prefix_mask: Tensor, shown_BT: Tensor) -> Tensor:
    """Logits (B, T, V) of every target token from ONE forward pass over prefix | shown; -100 marks empty columns."""
    inputs = revealing_inputs(prefix_ids, prefix_mask, shown_BT)
    return model(**inputs, use_cache=False, logits_to_keep=shown_BT.shape[1]).logits


def one_pass(model: torch.nn.Module, prefix_ids: Tensor, prefix_mask: Tensor, shown_BT: Tensor) -> Tensor:
    """Greedy predictions (B, T) from ONE forward pass: forced with the true target shown, parallel with dummies."""
    return greedy(one_pass_logits(model, prefix_ids, prefix_mask, shown_BT), shown_BT)


def parallel(model: torch.nn.Module, prefix_ids: Tensor, prefix_mask: Tensor, lengths_B: Tensor, dummy: int) -> Tensor:
    """All target tokens at once from a prefix and `lengths_B` dummies (arXiv 2403.06963, teacherless inference)."""
    return one_pass(model, prefix_ids, prefix_mask, torch.where(answer_columns(lengths_B), dummy, IGNORE))


@torch.no_grad()
def token_by_token(
    model: PreTrainedModel,
    prefix_ids: Tensor,
    prefix_mask: Tensor,
    lengths_B: Tensor,
    pad_token_id: int,
    embedded_BPD: Tensor | None = None,
) -> Tensor:
    """Greedy token-by-token decoding by `generate`. No token ends a row: the length is given, as in the paper.

    Embeddings, where given, are read in place of the prefix's ids.
    """
    steps = int(lengths_B.max())
    read = {"inputs": prefix_ids} if embedded_BPD is None else {"inputs_embeds": embedded_BPD}
    greedy = GenerationConfig(max_new_tokens=steps, do_sample=False, use_cache=True, pad_token_id=pad_token_id)
    # What `greedy` leaves open, generate() takes from the model's settings: end tokens, penalties, suppressed tokens.
    settings, pad = model.generation_config, getattr(model.config, "pad_token_id", None)
    model.generation_config = GenerationConfig()
    # generate() leaves out a mask without padding, and the model would take a pad token that it writes for padding.
    model.config.pad_token_id = None
    try:
        ids = model.generate(**read, attention_mask=prefix_mask, generation_config=greedy)
    finally:
        model.generation_config, model.config.pad_token_id = settings, pad
    return ids[:, -steps:].where(answer_columns(lengths_B), IGNORE)


def by_forcing(forced: Callable[[Tensor], Tensor], lengths_B: Tensor) -> Tensor:
    """Greedy token-by-token decoding without a cache; `forced` predicts each token of (B, T) from the earlier ones."""
    ids_BT = torch.zeros(len(lengths_B), 0, dtype=torch.long, device=lengths_B.device)
    for _ in range(int(lengths_B.max())):
        open_BT = torch.cat([ids_BT, torch.zeros_like(lengths_B)[:, None]], dim=1)
        ids_BT = torch.cat([ids_BT, forced(open_BT)[:, -1:]], dim=1)
    return ids_BT.where(answer_columns(lengths_B), IGNORE)
