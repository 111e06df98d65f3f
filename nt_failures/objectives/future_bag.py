"""Future bag: beside the next token, predict which tokens come later, as a set."""

import dataclasses

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import option
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, VocabularyHead, row_mean_sum, upcoming


@dataclasses.dataclass(frozen=True)
class FutureBag(ExtraLoss):
    """Predict the next token, and with one linear head the set of the target tokens behind it.

    For the target `32 34 6 16 12`: the bag of the state behind `=` is {34, 6, 16, 12}, behind `32` {6, 16, 12}, behind
    `6` {12}; behind `16` there is none, and the state does not count.

    loss = CE_next + weight * mean over the states with a bag of (mean over the bag of - log sigmoid(b_v) + mean over
    all other tokens of - log sigmoid(- b_v)) / 2, b = linear(h_t) (arXiv 2510.14751; that bag and rest weigh alike is
    ours). The next token is left out: it could be looked up, and the head would learn the cheat.
    Relations: inputs and decoding of `next_token`; `token_order` keeps the order. Needs: hidden states.

    Args:
        window: how many tokens ahead the bag reaches, from 2; None for the whole target.
        weight: of the bag's loss.

    Example:
        >>> from nt_failures import FutureBag
        >>> FutureBag(window=1)
        Traceback (most recent call last):
        ValueError: window=1 must be a whole number from 2; the default is None.
        >>> FutureBag(window=3).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])["input_ids"].tolist()
        [[1, 2, 7, 8, 9]]
    """

    window: int | None = option(None, least=2, whole=True)
    weight: float = option(1.0)

    citation = "Mahajan et al., Beyond Multi-Token Prediction: Pretraining LLMs with Future Summaries, arXiv 2510.14751"

    def attach(self, model: PreTrainedModel) -> None:
        auxiliary_modules.attach(model, bag=VocabularyHead(model.config.hidden_size, model.config.vocab_size))

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        logits_BTV = auxiliary_modules.modules_of(model)["bag"](output.label_states_BTD).float()
        in_bag_BTV = upcoming(output.labels_BT, logits_BTV.shape[-1], self.window, nearest=2).isfinite()
        sizes_BT = in_bag_BTV.sum(dim=-1)
        inside_BT = (F.softplus(-logits_BTV) * in_bag_BTV).sum(dim=-1) / sizes_BT.clamp(min=1)
        outside_BT = (F.softplus(logits_BTV) * ~in_bag_BTV).sum(dim=-1) / (logits_BTV.shape[-1] - sizes_BT).clamp(min=1)
        return {"bag": (self.weight, row_mean_sum((inside_BT + outside_BT) / 2, sizes_BT.gt(0), output.labels_BT))}
