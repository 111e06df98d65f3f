"""Reading predictions from a model: one pass with the targets revealed, one pass behind dummies, or token by token."""

import torch
from transformers import GenerationConfig, PreTrainedModel

from nt_failures.data.batches import IGNORE, position_ids


@torch.no_grad()
def one_pass_logits(
    model: torch.nn.Module, prefix_ids: torch.Tensor, prefix_mask: torch.Tensor, shown_BT: torch.Tensor
) -> torch.Tensor:
    """Logits (B, T, V) of every target token from ONE forward pass over prefix | shown; junk in empty columns.

    `shown_BT` stands in the target's place; -100 marks empty columns.
    """
    real_BT = shown_BT.ne(IGNORE)
    ids = torch.cat([prefix_ids, shown_BT.where(real_BT, prefix_ids[:, -1:])], dim=1)[:, :-1]
    mask = torch.cat([prefix_mask, real_BT.to(prefix_mask.dtype)], dim=1)[:, :-1]
    inputs = {"input_ids": ids, "attention_mask": mask}
    if not bool(prefix_mask.all()):
        inputs["position_ids"] = position_ids(mask)
    return model(**inputs, use_cache=False, logits_to_keep=shown_BT.shape[1]).logits


def one_pass(
    model: torch.nn.Module, prefix_ids: torch.Tensor, prefix_mask: torch.Tensor, shown_BT: torch.Tensor
) -> torch.Tensor:
    """Greedy predictions (B, T) of every target token from ONE forward pass over prefix | shown.

    `shown_BT` stands in the target's place; -100 marks empty columns, in the answer too. With the true target shown,
    these are the forced (teacher-forced) predictions; with dummies, the parallel ones.
    """
    logits_BTV = one_pass_logits(model, prefix_ids, prefix_mask, shown_BT)
    return logits_BTV.argmax(dim=-1).where(shown_BT.ne(IGNORE), IGNORE)


def parallel(
    model: torch.nn.Module, prefix_ids: torch.Tensor, prefix_mask: torch.Tensor, lengths_B: torch.Tensor, dummy: int
) -> torch.Tensor:
    """All target tokens at once from a prefix and `lengths_B` dummies (arXiv 2403.06963, teacherless inference)."""
    columns_T = torch.arange(int(lengths_B.max()), device=prefix_ids.device)
    dummies_BT = torch.where(columns_T < lengths_B[:, None], dummy, IGNORE)
    return one_pass(model, prefix_ids, prefix_mask, dummies_BT)


@torch.no_grad()
def autoregressive(
    model: PreTrainedModel,
    prefix_ids: torch.Tensor,
    prefix_mask: torch.Tensor,
    lengths_B: torch.Tensor,
    pad_token_id: int,
) -> torch.Tensor:
    """Greedy token-by-token decoding with the model's own cache, by `generate`.

    It feeds a Mamba one token at a time after the prefix, which its cache needs, and numbers padded rows right. No
    token ends a row: the length is given, as in the paper, whose targets carry no end token.
    """
    steps = int(lengths_B.max())
    greedy = GenerationConfig(max_new_tokens=steps, do_sample=False, use_cache=True, pad_token_id=pad_token_id)
    # generate() fills what `greedy` leaves open from the model's own settings: end tokens, penalties, suppressed tokens.
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        ids = model.generate(inputs=prefix_ids, attention_mask=prefix_mask, generation_config=greedy)
    finally:
        model.generation_config = own
    new_BT = ids[:, prefix_ids.shape[1] :]
    columns_T = torch.arange(steps, device=ids.device)
    return new_BT.where(columns_T < lengths_B[:, None], IGNORE)
