"""Multi-token heads: blocks beside the trunk's last one predict the tokens behind the next one."""

import copy
import dataclasses
from typing import ClassVar

import torch
from transformers import PreTrainedModel

from nt_failures.objectives import auxiliary_modules, last_block
from nt_failures.objectives.base import target_logits
from nt_failures.objectives.extra_loss import TeacherForced, Terms, weighed
from nt_failures.objectives.losses import Batch, Loss, ahead_loss, cross_entropy
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class MultiTokenHeads(TeacherForced):
    """Predict the next `heads` tokens from each state, each by a last block of its own.

    For the target `32 34 6 16 12` and three heads (inputs and labels are those of `next_token`):

        input_ids   ...   12    =   32   34    6   16   12
        head 1            =  ->   32;   32 -> 34;   34 ->  6;    6 -> 16;   16 -> 12
        head 2     12 -> 32;    = -> 34;   32 ->  6;   34 -> 16;    6 -> 12
        head 3     32 -> 32;   12 -> 34;    = ->  6;   32 -> 16;   34 -> 12

    loss = sum_j mean over the columns c whose c+j is a target token of - log p_j(x_c+j | x_<=c) (arXiv 2404.19737, eq.
    2), labels of states before `=` included: each head has all T labels of a row. p_j = softmax(U norm(block_j(x))):
    x is the trunk's output before its last block and any norm, block_1 the trunk's own last block, each further one a
    new block of its class, norm and U the model's own. The trunk stays as deep as it is; the source takes a block from
    it for each head, to keep the number of parameters: ask for a model of fewer layers. Decoding: head 1, the stock
    model.
    A row whose prompt is shorter than j lacks labels of head j: its mean counts as its T labels do. So rows of unequal
    lengths weigh by T, and accumulated batches add up to the whole one.
    Relations: heads 1 is `next_token`; `joint_multi_token` predicts the same window jointly. Needs: a trunk of blocks
    and one norm. Equal to the authors' code (golden): the path-star fork's, and NextLat's with `mean_weight`.

    Args:
        heads: tokens predicted from each state, the next one included, 1 to 64. The source's best for code is 4; 2 and
            4 in the comparison of arXiv 2508.19228.
        mean_weight: None adds the heads' losses up, as the source. A number is the variant of NextLat's code (arXiv
            2511.05963): loss_1 + mean_weight * mean of the other heads' losses, with a final norm for each head and
            the end token as a label of head 1 alone; swept from .1 to 1 there.

    Example:
        >>> from nt_failures import MultiTokenHeads
        >>> batch = MultiTokenHeads(heads=3).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
    """

    heads: int = option(4, least=1, most=64, whole=True)
    mean_weight: float | None = option(None)

    citation = (
        "Gloeckle et al., Better & Faster Large Language Models via Multi-token Prediction, ICML 2024, arXiv 2404.19737"
    )
    VERSION: ClassVar[int] = 2

    def attach(self, model: PreTrainedModel) -> None:
        modules = {f"head_{j}": last_block.new_block(model) for j in range(2, self.heads + 1)}
        if self.mean_weight is not None:
            _, norm = last_block.parts(model)
            modules |= {f"norm_{j}": copy.deepcopy(norm).requires_grad_() for j in range(2, self.heads + 1)}
        auxiliary_modules.attach(model, **modules)

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        (blocks, norm), modules = last_block.parts(model), auxiliary_modules.modules_of(model)
        with last_block.calls_of(blocks[-1]) as calls:
            logits_BTV, labels_BT = target_logits(model, batch)
        (call,) = calls
        weight, but_not = 1.0, None
        if self.mean_weight is not None:
            weight, but_not = self.mean_weight / max(self.heads - 1, 1), self.end_token_id
        terms: Terms = {"next_token": (1.0, cross_entropy(logits_BTV, labels_BT))}
        for j in range(2, self.heads + 1):
            states_BSD = last_block.states_of(modules[f"head_{j}"], call)
            states_BSD = norm(states_BSD) if self.mean_weight is None else modules[f"norm_{j}"](states_BSD)
            terms[f"head_{j}"] = (weight, ahead_loss(model, states_BSD, j, batch, labels_BT, but_not))
        return weighed(terms, labels_BT)
