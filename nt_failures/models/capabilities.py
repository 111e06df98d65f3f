"""What a model offers to an objective: known for the library's own families, probed for any other model."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nt_failures.models import attention_masks
from nt_failures.models.compat import attention_kernel, is_recurrent
from nt_failures.models.families import FAMILIES

CAPABILITIES = ("4d_mask", "bidirectional", "hidden_states")
"""What an objective may need: a (B, 1, S, S) attention mask, attention to later tokens, hidden states of the trunk."""

MASKED_ATTENTION = ("eager", "sdpa")
"""Attention implementations of transformers that take any mask; flash attention takes causal and padding masks only."""


def capabilities(model: PreTrainedModel) -> frozenset[str]:
    """Which of `CAPABILITIES` the model offers. A recurrent model and flash attention take no mask of any form."""
    if is_recurrent(model) or attention_kernel(model) not in MASKED_ATTENTION:
        return frozenset({"hidden_states"})
    if model.config.model_type in FAMILIES:
        return frozenset(CAPABILITIES)
    mask, later = mask_obeyed(model)
    return frozenset({"hidden_states", *(["4d_mask"] if mask else []), *(["bidirectional"] if later else [])})


COLUMNS = 6
"""Length of the rows with which `mask_obeyed` probes a model."""


@torch.no_grad()
def mask_obeyed(model: PreTrainedModel) -> tuple[bool, bool]:
    """Whether a column depends only on what a 4-D mask shows it and its position, and whether it can see later columns.

    No attribute of a model says so, so a few short rows are run through it. A model that mixes columns by a convolution
    or a recurrence looks past the mask, and one with a causal mask of its own adds that to ours.
    """
    if model.device.type == "meta":  # no weights to probe it with
        return True, True
    training = model.training
    model.eval()
    try:
        obeyed = _obeys_mask(model)
        return obeyed, obeyed and _sees_later(model)
    except Exception:  # a model that takes no such mask or no positions may raise anything
        return False, False
    finally:
        model.train(training)


def _obeys_mask(model: PreTrainedModel) -> bool:
    """Whether the last column ignores a token that the mask hides from it, and heeds a change of its own position."""
    alone = torch.eye(COLUMNS, dtype=torch.bool)[None]
    causal = attention_masks.causal(torch.ones(1, COLUMNS, dtype=torch.long))
    hidden_ignored = torch.equal(_logits(model, alone)[:, -1], _logits(model, alone, changed=COLUMNS - 2)[:, -1])
    moved = _logits(model, causal, last_position=COLUMNS)[:, -1]
    return hidden_ignored and not torch.equal(_logits(model, causal)[:, -1], moved)


def _sees_later(model: PreTrainedModel) -> bool:
    """Whether the first column heeds the last token under a mask that shows everything."""
    everything = torch.ones(1, COLUMNS, COLUMNS, dtype=torch.bool)
    return not torch.equal(_logits(model, everything)[:, 0], _logits(model, everything, changed=COLUMNS - 1)[:, 0])


def _logits(
    model: PreTrainedModel, seen: Tensor, changed: int | None = None, last_position: int = COLUMNS - 1
) -> Tensor:
    """Logits (1, 6, V) of a row of token 0, with token 1 in the column `changed`."""
    ids, positions = torch.zeros(1, COLUMNS, dtype=torch.long), torch.arange(COLUMNS)[None]
    positions[0, -1] = last_position
    if changed is not None:
        ids[0, changed] = 1
    mask = attention_masks.additive(seen, model.dtype)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}, use_cache=False).logits
