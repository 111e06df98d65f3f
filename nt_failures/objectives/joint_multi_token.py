"""Joint multi-token prediction: the next tokens are decoded jointly from one hidden state, the bottleneck."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import ExtraLoss, Loss
from nt_failures.objectives.losses import cross_entropy, forward_pass, row_mean_sum, unembed


@dataclasses.dataclass(frozen=True)
class JointMultiToken(ExtraLoss):
    """Predict the next token; and from its hidden state alone, the window of tokens behind it, one after the other.

    For the target `32 34 6 16 12` and window 3, from the state h behind `=`:

        read         h   32   34         (the window is teacher-forced, but it sees nothing of the prefix beside h)
        predict     32   34    6

    loss = CE_next + weight * mean over windows and their steps of - log p(s_t+1+i | h_t, s_t+1 .. s_t+i), i = 1 .. window - 1: the
    factorised joint of arXiv 2503.21801. Teacher forcing inside the window gives away the tokens, not the graph: the
    look-up must be in h_t. The light module is a GRU of the model's width that starts at h_t (ours; the source attends),
    followed by the shared unembedding. Inputs and labels are those of `next_token`, decoding too: the GRU is dropped.
    Relations: `multi_token_heads` predicts the window's tokens independently. Needs: hidden states.

    Args:
        window: tokens predicted from each state, the next one included, from 2.
        weight: of the window's loss.
    """

    window: int = 4
    weight: float = 1.0

    citation: ClassVar[str] = "Ahn et al., Efficient Joint Prediction of Multiple Future Tokens, arXiv 2503.21801"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.window, int) and self.window >= 2):
            raise ValueError(f"window={self.window!r} must be a whole number from 2; 4 predicts the next four tokens.")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight={self.weight} must be a number >= 0; 1.0 weighs the window like the next token.")

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        auxiliary_modules.attach(model, window=torch.nn.GRU(width, width, batch_first=True))

    def loss(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        seen = forward_pass(model, batch)
        next_token = cross_entropy(seen.logits_BTV, seen.labels_BT)
        tokens_BTW = self.windows(seen.labels_BT)  # labels 0 .. window - 1 behind each state
        states_BTD = seen.states_BSD[:, seen.first - 1 :]
        given = (
            auxiliary_modules.unwrap_model(model)
            .get_input_embeddings()(tokens_BTW[:, :, :-1].clamp(min=0))
            .flatten(0, 1)
        )
        read, _ = auxiliary_modules.attached(model)["window"](given, states_BTD.flatten(0, 1)[None].contiguous())
        logits = unembed(model, read).float()
        wanted = tokens_BTW[:, :, 1:].flatten(0, 1)
        nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=IGNORE, reduction="none")
        rows = (len(seen.labels_BT), -1)
        window = row_mean_sum(nats.view(rows), wanted.ne(IGNORE).view(rows), seen.labels_BT)
        parts = {"next_token": next_token.detach(), "window": window.detach()}
        return Loss(next_token + self.weight * window, seen.labels_BT.ne(IGNORE).sum(), parts)

    def windows(self, labels_BT: torch.Tensor) -> torch.Tensor:
        """The labels (B, T, window) that follow each state, -100 behind the target's end."""
        window = min(self.window, labels_BT.shape[1] + 1)  # what lies further on is empty
        padded = torch.nn.functional.pad(labels_BT, (0, window - 1), value=IGNORE)
        return padded.unfold(1, window, 1)
