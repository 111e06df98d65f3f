"""Token order: beside the next token, rank all tokens by how soon they come."""

import dataclasses

import torch
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, VocabularyHead, at_least_float32, upcoming
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class TokenOrder(ExtraLoss):
    """Predict the next token, and with a second unembedding the order in which the later target tokens come.

    For the target `32 34 6 16 12` and the state behind `=` (window 5): scores 4 for 32, 3 for 34, 2 for 6, 1 for 16, 0
    for 12, minus infinity for every other token; behind `32`: 4 for 34, 3 for 6, 2 for 16, 1 for 12.

    loss = CE_next + weight * sum_t ( - sum_v softmax(y_t)_v log softmax(U_top h_t)_v ), y_t,v = window - (steps from t
    to the next v) inside the window (arXiv 2508.19228, section 3: a list-wise ranking loss). Equal to the authors' code
    (golden), up to a constant in y that the softmax does not see; the window is that of their kernel, their plain
    function ranks one token more. Both terms are means over the labels, of the whole accumulated batch. The head is
    dropped in decoding. In the authors' star-graph code the window covers the whole rest of the target and the weight
    is 1, the defaults here; for language models they also have (1 - a) * CE + a * ranking loss.
    Relations: inputs and decoding of `next_token`; `future_bag` ignores the order. Needs: nothing.

    Args:
        window: how many tokens ahead are ranked; None for the whole target.
        weight: of the ranking loss.

    Example:
        >>> from nt_failures import TokenOrder
        >>> batch = TokenOrder(window=3).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
    """

    window: int | None = option(None, least=1, whole=True)
    weight: float = option(1.0)

    citation = "Zuhri et al., Predicting the Order of Upcoming Tokens Improves Language Modeling, arXiv 2508.19228"

    def attach(self, model: PreTrainedModel) -> None:
        head = VocabularyHead(model.config.hidden_size, model.config.vocab_size, bias=False)
        auxiliary_modules.attach(model, order=head)

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        logits_BTV = auxiliary_modules.modules_of(model)["order"](output.label_states_BTD)
        logits_BTV = at_least_float32(logits_BTV)
        scores_BTV = upcoming(output.labels_BT, logits_BTV.shape[-1], self.window)
        wanted_BTV = scores_BTV.to(logits_BTV.dtype).softmax(dim=-1)
        ranked_BT = -(wanted_BTV.nan_to_num(0.0) * logits_BTV.log_softmax(dim=-1)).sum(dim=-1)
        return {"order": (self.weight, ranked_BT.where(output.labels_BT.ne(IGNORE), 0).sum())}
