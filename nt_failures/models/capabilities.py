"""What a model offers to an objective: known of our own families, tried with any other."""

import torch
from transformers import PreTrainedModel

from nt_failures.models import attention_masks
from nt_failures.models.families import FAMILIES

CAPABILITIES = ("4d_mask", "bidirectional", "hidden_states")
"""What an objective may need: a (B, 1, S, S) attention mask, attention to later tokens, hidden states of the trunk."""

MASKED_ATTENTION = ("eager", "sdpa")
"""Attention implementations of transformers that take a mask of any form; flash attention knows causal and padding alone."""


def capabilities(model: PreTrainedModel) -> frozenset[str]:
    """Which of `CAPABILITIES` the model offers. A recurrent model has no attention mask to shape, nor has flash attention.

    Of the families that this library makes it is known; any other model is tried (`mask_obeyed`).
    """
    if model._is_stateful or model.config._attn_implementation not in MASKED_ATTENTION:
        return frozenset({"hidden_states"})
    if model.config.model_type in FAMILIES:
        return frozenset(CAPABILITIES)
    mask, later = mask_obeyed(model)
    return frozenset({"hidden_states", *(["4d_mask"] if mask else []), *(["bidirectional"] if later else [])})


_TRIED = 6
"""Columns of the rows by which `mask_obeyed` tries a model."""


@torch.no_grad()
def mask_obeyed(model: PreTrainedModel) -> tuple[bool, bool]:
    """Whether a column rests on what a 4-D mask shows it and on its position alone, and whether it can see later ones.

    It is tried with a few short rows, as no attribute of a model says so: one that mixes columns by a convolution or a
    recurrence looks past the mask, and one with a causal mask of its own puts it on top.
    """
    if model.device.type == "meta":  # no weights to try it with
        return True, True
    training = model.training
    model.eval()
    try:
        own = _obeys_own(model)
        return own, own and _sees_later(model)
    except Exception:  # a model that takes no such mask or no positions raises what it likes
        return False, False
    finally:
        model.train(training)


def _obeys_own(model: PreTrainedModel) -> bool:
    """With each column seeing itself alone: the last one's logits, if another token changes, and if its position does."""
    alone = torch.eye(_TRIED, dtype=torch.bool)[None]
    every_earlier = attention_masks.causal(torch.ones(1, _TRIED, dtype=torch.long))
    last = _tried(model, alone)[:, -1]
    others = torch.equal(last, _tried(model, alone, changed=_TRIED - 2)[:, -1])
    moved = _tried(model, every_earlier, last_position=_TRIED)[:, -1]
    return others and not torch.equal(_tried(model, every_earlier)[:, -1], moved)


def _sees_later(model: PreTrainedModel) -> bool:
    everything = torch.ones(1, _TRIED, _TRIED, dtype=torch.bool)
    first = _tried(model, everything)[:, 0]
    return not torch.equal(first, _tried(model, everything, changed=_TRIED - 1)[:, 0])


def _tried(
    model: PreTrainedModel, seen: torch.Tensor, changed: int | None = None, last_position: int = _TRIED - 1
) -> torch.Tensor:
    """Logits (1, 6, V) of a row of token 0, with token 1 in one column."""
    ids, places = torch.zeros(1, _TRIED, dtype=torch.long), torch.arange(_TRIED)[None]
    places[0, -1] = last_position
    if changed is not None:
        ids[0, changed] = 1
    mask = attention_masks.additive(seen, model.dtype)
    to = model.device
    return model(input_ids=ids.to(to), attention_mask=mask.to(to), position_ids=places.to(to), use_cache=False).logits
