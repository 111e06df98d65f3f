"""Attention masks of more than padding: who sees whom, and the form in which every attention kernel takes it.

Shapes: B rows, S columns; entry (b, i, j) says whether column i sees column j.
"""

import torch
from transformers import PreTrainedModel


def causal(real_BS: torch.Tensor) -> torch.Tensor:
    """Each column sees itself and the real columns before it, (B, S, S) booleans."""
    columns_S = torch.arange(real_BS.shape[1], device=real_BS.device)
    return (columns_S[None, :] <= columns_S[:, None]) & real_BS.bool()[:, None, :]


def full(real_BS: torch.Tensor) -> torch.Tensor:
    """Each column sees all real columns, (B, S, S) booleans."""
    return real_BS.bool()[:, None, :].expand(-1, real_BS.shape[1], -1)


def additive(seen_BSS: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask as a (B, 1, S, S) term of the attention scores: 0 where seen, the lowest number where not.

    A term serves the eager and the sdpa kernel alike; booleans would be added as 0 and 1 by the eager one.
    """
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen_BSS.shape, dtype=dtype, device=seen_BSS.device).masked_fill(~seen_BSS, lowest)[:, None]


_TRIED = 6
"""Columns of the rows by which `obeyed` tries a model."""


@torch.no_grad()
def obeyed(model: PreTrainedModel) -> tuple[bool, bool]:
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
    every_earlier = causal(torch.ones(1, _TRIED, dtype=torch.long))
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
    mask = additive(seen, model.dtype)
    to = model.device
    return model(input_ids=ids.to(to), attention_mask=mask.to(to), position_ids=places.to(to), use_cache=False).logits
