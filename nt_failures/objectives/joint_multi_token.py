"""Joint multi-token prediction: the next tokens are decoded jointly from one hidden state, the bottleneck."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import option
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, row_mean_sum, token_nats, unembed


@dataclasses.dataclass(frozen=True)
class JointMultiToken(ExtraLoss):
    """Predict the next token; and from its hidden state alone, the window of tokens behind it, one after the other.

    For the target `32 34 6 16 12` and window 3, from the state h behind `=`:

        read         h   32   34         (the window is teacher-forced, but it sees nothing of the prefix beside h)
        predict     32   34    6

    loss = CE_next + weight * mean over windows and their steps i = 1 .. window - 1 of
    - log p(s_t+1+i | h_t, s_t+1 .. s_t+i), the factorised joint of arXiv 2503.21801. The light module is a GRU that
    starts at h_t (ours; the source attends), then the shared unembedding. Relations: inputs and decoding of
    `next_token`; `multi_token_heads` predicts the window's tokens independently. Needs: hidden states.

    Args:
        window: tokens predicted from each state, the next one included, from 2.
        weight: of the window's loss.

    Example:
        >>> import torch
        >>> from nt_failures import JointMultiToken
        >>> JointMultiToken(window=3).windows(torch.tensor([[7, 8, 9]])).tolist()
        [[[7, 8, 9], [8, 9, -100], [9, -100, -100]]]
    """

    window: int = option(4, least=2, whole=True)
    weight: float = option(1.0)

    citation = "Ahn et al., Efficient Joint Prediction of Multiple Future Tokens, arXiv 2503.21801"

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        auxiliary_modules.attach(model, window=torch.nn.GRU(width, width, batch_first=True))

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        tokens_BTW = self.windows(output.labels_BT)
        embed = auxiliary_modules.unwrap_model(model).get_input_embeddings()
        read = embed(tokens_BTW[:, :, :-1].clamp(min=0)).flatten(0, 1)
        start = output.label_states_BTD.flatten(0, 1)[None].contiguous()
        states, _ = auxiliary_modules.modules_of(model)["window"](read, start)
        wanted = tokens_BTW[:, :, 1:].flatten(0, 1)
        nats = token_nats(unembed(model, states), wanted)
        rows = (len(output.labels_BT), -1)
        return {"window": (self.weight, row_mean_sum(nats.view(rows), wanted.ne(IGNORE).view(rows), output.labels_BT))}

    def windows(self, labels_BT: Tensor) -> Tensor:
        """The labels (B, T, window) that follow each state, -100 behind the target's end."""
        window = min(self.window, labels_BT.shape[1] + 1)  # what lies further on is empty
        return F.pad(labels_BT, (0, window - 1), value=IGNORE).unfold(1, window, 1)
