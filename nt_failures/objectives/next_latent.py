"""Next latent: beside the next token, predict the next hidden state from this one and the next token."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, at_least_float32, unembed
from nt_failures.objectives.options import option


class LatentStep(nn.Module):
    """p(h, e): the state behind a token, from the state before it and its embedding, each (..., width).

    h + down(gelu(mid(gelu(up RMSNorm([e ; h]))))), without biases; `hidden` is the width inside.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.RMSNorm(2 * width, eps=1e-5)
        self.up = nn.Linear(2 * width, hidden, bias=False)
        self.mid = nn.Linear(hidden, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, states: Tensor, embedded: Tensor) -> Tensor:
        read = self.norm(torch.cat([embedded, states], dim=-1))
        return states + self.down(F.gelu(self.mid(F.gelu(self.up(read)))))


@dataclasses.dataclass(frozen=True)
class NextLatent(ExtraLoss):
    """Predict the next token, and roll the hidden state forward through the true tokens.

    For the prefix `.. 12 =` and the target `32 34 6 16 12`, h_c the state in column c, e_c its token's embedding:

        column          ..   25   26   27   28   29   30   31
        input_ids       ..   12    =   32   34    6   16   12
        predicts                  32   34    6   16   12           softmax(U h_c)
        rolled once     ..    x    x    x    x    x    x    x      g^1_c = p(h_(c-1), e_c)
        rolled twice    ..    x    x    x    x    x    x    x      g^2_c = p(g^1_(c-1), e_c)
        compared by     ..    S    S    S    S    S    S    S      smooth L1 of g^i_c and h_c
                                   K    K    K    K    K           KL of the two predictions: from `=` to the last label

    g^0_c = h_c; g^i_c = p(g^(i-1)_(c-1), e_c), p as in `LatentStep`, W wide inside, its weights drawn from N(0, 0.02).
    loss = CE_next + smooth_weight * S + kl_weight * K + ce_weight * C, where S, K and C are means over the steps i = 1
    .. horizon of each step's mean over its columns (arXiv 2511.05963, section 3): S of SmoothL1(g^i_c, stopgrad h_c)
    over the whole row, prompt included; K of KL(softmax(U stopgrad h_c) || softmax(stopgrad(U) g^i_c)), and C of the
    cross-entropy of stopgrad(U) g^i_c, over the columns of the KL. U learns from CE_next alone.

    Equal to the authors' code (golden), for rows of one length, all it knows. Rows of several lengths: each has the
    means of its own columns, weighed by its number of labels, so accumulated batches add up as one batch would.
    Ours: W is 128 at least (the source's rule gives 0 for narrow models). The source's EOS, predicted, its state not
    compared, is `end_token_id` here; rows of fixed length end without it, so K has one column less.
    Relations: inputs and decoding of `next_token`; `joint_multi_token` looks at tokens. Needs: nothing.

    Args:
        horizon: steps rolled forward, from 1; None for the target's length - 2, the source's choice for path-star.
        smooth_weight, kl_weight, ce_weight: of the three; the source has 1, 1 and 0.
        projection_factor: f of W = 128 * round(2 * f * hidden size / 128); the source has 0.5 on path-star, else 1.

    Example:
        >>> from nt_failures import NextLatent
        >>> batch = NextLatent(horizon=2).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["input_ids"].tolist()
        [[1, 2, 7, 8, 9]]
    """

    horizon: int | None = option(None, least=1, whole=True)
    smooth_weight: float = option(1.0)
    kl_weight: float = option(1.0)
    ce_weight: float = option(0.0)
    projection_factor: float = option(0.5, above=True, most=64)

    VERSION: ClassVar[int] = 3
    whole_row = True
    citation = "Teoh et al., Next-Latent Prediction Transformers Learn Compact World Models, arXiv 2511.05963"

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        inside = 128 * max(round(2 * self.projection_factor * width / 128), 1)
        step = LatentStep(width, inside)
        auxiliary_modules.attach(model, step=step)
        for layer in (step.up, step.mid, step.down):  # drawn as in the source, whatever the model's own way is
            nn.init.normal_(layer.weight, std=0.02)

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        step = auxiliary_modules.modules_of(model)["step"]
        embedded_BSD = auxiliary_modules.unwrap_model(model).get_input_embeddings()(batch["input_ids"])
        real_BS, compared_BS = batch["attention_mask"].bool(), self._is_not_eos(batch["input_ids"])
        labels_BT, start, rolled = output.labels_BT, output.first - 1, output.states_BSD
        states_BSD = output.states_BSD.detach()
        true_BTV = _log_probs(model, output.label_states_BTD.detach())
        # Without a horizon it is that of each row's own target, whatever stands beside it in the batch.
        tokens_B1 = (labels_BT.ne(IGNORE) & self._is_not_eos(labels_BT)).sum(dim=1, keepdim=True)
        horizon_B1 = (tokens_B1 - 2).clamp(min=1) if self.horizon is None else torch.full_like(tokens_B1, self.horizon)
        steps = self.horizon or max(labels_BT.shape[1] - 2, 1)
        smooth, kl, ce = [], [], []
        for i in range(1, min(steps, states_BSD.shape[1] - 1) + 1):
            rolled = step(rolled[:, :-1], embedded_BSD[:, i:])  # columns i .. S-1
            counted = real_BS[:, :-i] & real_BS[:, i:] & (horizon_B1 >= i)
            distance = F.smooth_l1_loss(rolled, states_BSD[:, i:], reduction="none").mean(dim=-1)
            smooth.append((distance, counted & compared_BS[:, i:]))
            first = max(start, i)
            labels, true = labels_BT[:, first - start :], true_BTV[:, first - start :]
            found = _log_probs(model, rolled[:, first - i : -1])
            counted = counted[:, first - i : -1] & labels.ne(IGNORE)
            kl.append((F.kl_div(found, true, reduction="none", log_target=True).sum(dim=-1), counted))
            ce.append((-found.gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0], counted))
        labels_B = labels_BT.ne(IGNORE).sum(dim=1)
        terms = {"smooth": (self.smooth_weight, smooth), "kl": (self.kl_weight, kl), "ce": (self.ce_weight, ce)}
        return {
            name: (weight, (_mean_of_means(columns) * labels_B).sum())
            for name, (weight, columns) in terms.items()
            if name != "ce" or weight
        }

    def _is_not_eos(self, ids: Tensor) -> Tensor:
        return ids.ne(-1 if self.end_token_id is None else self.end_token_id)


def _log_probs(model: torch.nn.Module, states: Tensor) -> Tensor:
    return at_least_float32(unembed(model, states, frozen=True)).log_softmax(dim=-1)


def _mean_of_means(steps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """For each row (B,) the mean over steps of the mean of their counted values; steps without any are left out.

    A step is its values and whether each counts, both (B, N), N of its own.
    """
    numbers = torch.stack([counted.sum(dim=1) for _, counted in steps])
    sums = torch.stack([values.where(counted, 0).sum(dim=1) for values, counted in steps])
    return (sums / numbers.clamp(min=1)).sum(dim=0) / numbers.ne(0).sum(dim=0).clamp(min=1)
