"""What a model offers to an objective: known for the library's own families, probed for any other model."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nt_failures.models import attention_masks
from nt_failures.models.compat import attention_kernel, is_recurrent
from nt_failures.models.families import FAMILIES

CAPABILITIES = ("4d_mask", "bidirectional")
"""What an objective may need: a (B, 1, S, S) attention mask, attention to later tokens."""

MASKED_ATTENTION = ("eager", "sdpa")
"""Attention implementations of transformers that take any mask; flash attention takes causal and padding masks only."""


def capabilities(model: PreTrainedModel) -> frozenset[str]:
    """Which of `CAPABILITIES` the model offers. A recurrent model and flash attention take no mask of any form."""
    if is_recurrent(model) or attention_kernel(model) not in MASKED_ATTENTION:
        return frozenset()
    if model.config.model_type in FAMILIES:
        return frozenset(CAPABILITIES)
    return frozenset(name for name, obeyed in zip(CAPABILITIES, mask_obeyed(model), strict=True) if obeyed)


@torch.no_grad()
def mask_obeyed(model: PreTrainedModel) -> tuple[bool, bool]:
    """Whether a column depends only on what a 4-D mask shows it and its position, and whether it can see later columns.

    No attribute of a model says so, so a few short rows are run through it. A model that mixes columns by a convolution
    or a recurrence looks past the mask, and one with a causal mask of its own adds that to ours.
    """
    if model.device.type == "meta":  # no weights to probe it with
        return True, True
    everything = torch.ones(6, 6, dtype=torch.bool)
    alone, causal = torch.eye(6, dtype=torch.bool), everything.tril()
    training = model.training
    model.eval()
    try:
        hidden = torch.equal(_logits(model, alone)[-1], _logits(model, alone, changed=4)[-1])
        placed = not torch.equal(_logits(model, causal)[-1], _logits(model, causal, last_position=6)[-1])
        later = not torch.equal(_logits(model, everything)[0], _logits(model, everything, changed=5)[0])
        return hidden and placed, hidden and placed and later
    except Exception:  # a model that takes no such mask or no positions may raise anything
        return False, False
    finally:
        model.train(training)


def _logits(model: PreTrainedModel, seen_SS: Tensor, changed: int | None = None, last_position: int = 5) -> Tensor:
    """Logits (6, V) of a row of token 0, with token 1 in the column `changed`."""
    columns = torch.arange(6)
    ids, positions = columns.eq(-1 if changed is None else changed).long(), columns.clone()
    positions[-1] = last_position
    mask = attention_masks.additive(seen_SS[None], model.dtype)
    inputs = {"input_ids": ids[None], "attention_mask": mask, "position_ids": positions[None]}
    return model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}, use_cache=False).logits[0]
