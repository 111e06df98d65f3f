"""Next latent: beside the next token, predict the next hidden state from this one and the next token."""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import option
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, row_mean_sum, unembed


@dataclasses.dataclass(frozen=True)
class NextLatent(ExtraLoss):
    """Predict the next token, and roll the hidden state forward through the true tokens.

    For the prefix `.. 12 =` and the target `32 34 6 16 12`, horizon 2:

        states       ...  h12  h=   h32   h34   h6   h16
        rolled once       g=   g32  g34   g6    g16            from each state and the next token
        rolled twice      g32  g34  g6    g16                  from the rolled state and the token behind it

    g_t+1 = h_t + MLP([LayerNorm h_t ; e(s_t+1)]). loss = CE_next + smooth_weight * SmoothL1(stopgrad h_t+i, g_t+i) +
    kl_weight * KL(softmax(U stopgrad h_t+i) || softmax(U g_t+i)), each a mean over i = 1 .. horizon and all real
    columns, prefix included; U is frozen in the KL term (arXiv 2511.05963, section 3).
    Relations: inputs and decoding of `next_token`; `joint_multi_token` rolls to tokens. Needs: hidden states.

    Args:
        horizon: steps rolled forward, from 1; None for the target's length - 2, the source's choice for path-star.
        smooth_weight, kl_weight: of the two latent losses.

    Example:
        >>> from nt_failures import NextLatent
        >>> batch = NextLatent(horizon=2).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["input_ids"].tolist()
        [[1, 2, 7, 8, 9]]
    """

    horizon: int | None = option(None, least=1, whole=True)
    smooth_weight: float = option(1.0)
    kl_weight: float = option(1.0)

    citation = "Teoh et al., Next-Latent Prediction Transformers Learn Compact World Models, arXiv 2511.05963"

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        hidden = [layer for _ in range(2) for layer in (nn.Linear(2 * width, 2 * width), nn.GELU())]
        step = nn.Sequential(*hidden, nn.Linear(2 * width, width))
        auxiliary_modules.attach(model, norm=nn.LayerNorm(width), step=step)

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        # The last token of a row is never read: it has a state only where a longer row stands beside it.
        real_BS = batch["attention_mask"][:, :-1].bool() & batch["attention_mask"][:, 1:].bool()
        smooth, kl, counted = [], [], []
        modules = auxiliary_modules.modules_of(model)
        embed = auxiliary_modules.unwrap_model(model).get_input_embeddings()
        rolled = output.states_BSD
        steps = min(self.horizon or max(output.labels_BT.shape[1] - 2, 1), max(rolled.shape[1] - 1, 1))
        # Without a horizon it is that of each row's own target, whatever stands beside it in the batch.
        horizon_B1 = (output.labels_BT.ne(IGNORE).sum(dim=1, keepdim=True) - 2).clamp(min=self.horizon or 1)
        for i in range(1, steps + 1):
            before, token = rolled[:, :-1], embed(batch["input_ids"][:, i:-1])
            rolled = before + modules["step"](torch.cat([modules["norm"](before), token], dim=-1))
            true = output.states_BSD[:, i:].detach()
            smooth.append(F.smooth_l1_loss(rolled, true, reduction="none").mean(dim=-1))
            logits, wanted = (unembed(model, x, frozen=True).float().log_softmax(dim=-1) for x in (rolled, true))
            kl.append(F.kl_div(logits, wanted, log_target=True, reduction="none").sum(dim=-1))
            counted.append(real_BS[:, :-i] & real_BS[:, i:] & (horizon_B1 >= i))
        counted = torch.cat(counted, dim=1)
        return {
            "smooth": (self.smooth_weight, row_mean_sum(torch.cat(smooth, dim=1), counted, output.labels_BT)),
            "kl": (self.kl_weight, row_mean_sum(torch.cat(kl, dim=1), counted, output.labels_BT)),
        }
