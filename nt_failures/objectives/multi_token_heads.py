"""Multi-token heads: extra heads predict the tokens behind the next one."""

import dataclasses

import torch
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import option
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, cross_entropy, unembed


@dataclasses.dataclass(frozen=True)
class MultiTokenHeads(ExtraLoss):
    """Predict the next `heads` tokens from each hidden state, each by a head of its own.

    For the target `32 34 6 16 12` and three heads (inputs and labels are those of `next_token`):

        input_ids   ...   12    =   32   34    6   16   12
        head 1            =  ->   32;   32 -> 34;   34 ->  6;    6 -> 16;   16 -> 12
        head 2     12 -> 32;    = -> 34;   32 ->  6;   34 -> 16;    6 -> 12
        head 3     32 -> 32;   12 -> 34;    = ->  6;   32 -> 16;   34 -> 12

    loss = sum_j sum_t - log p_j(s_t+j | s_<=t) over the t whose s_t+j is a target token (arXiv 2404.19737, eq. 2).
    Head 1 is the stock model, and alone decodes; head j > 1 is one block of its kind, then the shared unembedding.
    Relations: heads 1 is `next_token`; `joint_multi_token` predicts the same window jointly. Needs: hidden states.

    Args:
        heads: tokens predicted from each state, the next one included, 1 to 64. The source's best is 4.

    Example:
        >>> from nt_failures import MultiTokenHeads
        >>> batch = MultiTokenHeads(heads=3).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
    """

    heads: int = option(4, least=1, most=64, whole=True)

    citation = (
        "Gloeckle et al., Better & Faster Large Language Models via Multi-token Prediction, ICML 2024, arXiv 2404.19737"
    )

    def attach(self, model: PreTrainedModel) -> None:
        heads = {f"head_{j}": auxiliary_modules.encoder_like(model, layers=1) for j in range(2, self.heads + 1)}
        auxiliary_modules.attach(model, **heads)

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        inputs = {name: batch[name][:, :-1] for name in ("attention_mask", "position_ids") if name in batch}
        losses = {}
        for j in range(2, self.heads + 1):
            head = auxiliary_modules.modules_of(model)[f"head_{j}"]
            states_BSD = head(inputs_embeds=output.states_BSD, use_cache=False, **inputs).last_hidden_state
            start = max(output.first - j, 0)  # the state in column t predicts column t + j
            labels = batch["labels"][:, start + j :]
            columns = slice(start, start + labels.shape[1])
            labels = labels.where(batch["attention_mask"][:, columns].bool(), IGNORE)  # no state in a padded column
            losses[f"head_{j}"] = (1.0, cross_entropy(unembed(model, states_BSD[:, columns]), labels))
        return losses
