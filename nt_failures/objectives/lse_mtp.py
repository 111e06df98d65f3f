"""LSE-MTP: linear heads predict the tokens behind the next one, held to the states and embeddings they foretell."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, row_mean_sum, squared_error, token_nats, unembed
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class LseMtp(ExtraLoss):
    """Predict the next `heads` tokens from each state, and with them the later state and the token's embedding.

    For the prompt `.. 12 =`, the target `32 34 6 16 12` and three heads; S columns are read, all but the last:

        input_ids   ..   12    =   32   34    6   16   12
        head 1           x    32   34    6   16   12            logits U h_c
        head 2          32    34    6   16   12    x            logits U h2_c, h2_c = A_2 h_c
        head 3          34     6   16   12    x    x            logits U h3_c, h3_c = A_3 h_c
        latent 2         S     S    S    S    S                 h2_c compared with the state 1 column on
        latent 3         S     S    S    S                      h3_c compared with the state 2 columns on
        semantic         S     S    S    S    S    S            both with E of their label; of the padding where x

    loss = CE_1 + sum over k = 2 .. heads of (CE_k + latent_weight * MSE(h^k_c, stopgrad h_(c+k-1)) + semantic_weight *
    MSE(h^k_c, stopgrad E[label])) (LSE-MTP, arXiv 2604.06155); h are states behind the final norm, A_k is linear
    without bias, U and E the model's own unembedding and embeddings. h_(c+k-1) is the state that has read all but the
    last of the k tokens. CE_k is a mean over the labels of head k, states before `=` included; the latent term is one
    over all columns that have such a state, the prompt's, too; the semantic term over all columns read, also those
    without a label, which are held to the padding's embedding, as in the authors' code (id 0 there).
    Equal to the authors' code (golden) for rows of one length, all it knows. Rows of several lengths: each has the
    means of its own columns, weighed by its number of labels, so accumulated batches add up as one batch would.
    How the authors draw A_k is not known to us; here it is drawn as the model's own layers are. Their U is tied with E;
    here that is the model's choice. Decoding: head 1, the stock model.
    Relations: heads 1 is `next_token`; `multi_token_heads` has a block for each head and no latent terms; `next_latent`
    rolls a state forward through the true tokens. Needs: nothing.

    Args:
        heads: tokens predicted from each state, the next one included (the source's K, for which it gives no
            default), 1 to 64.
        latent_weight, semantic_weight: of the two; the source has 0.1 and 0.1.
        predicts: `"target"` labels the target's tokens; `"row"`, as in the source, whose rows have no prompt to leave
            out, the prompt's, too, but for its first.

    Example:
        >>> from nt_failures import LseMtp
        >>> LseMtp(heads=3).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
        >>> LseMtp(predicts="row").collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])["labels"].tolist()
        [[-100, 2, 7, 8, 9]]
    """

    heads: int = option(4, least=1, most=64, whole=True)
    latent_weight: float = option(0.1)
    semantic_weight: float = option(0.1)
    predicts: str = option("target", choices=("target", "row"))

    citation = (
        "Zhong et al., Toward Consistent World Models with Multi-Token Prediction and Latent Semantic Enhancement, "
        "arXiv 2604.06155"
    )

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        maps = {f"head_{k}": nn.Linear(width, width, bias=False) for k in range(2, self.heads + 1)}
        auxiliary_modules.attach(model, **maps)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        batch = super().collate(examples)
        if self.predicts == "row":
            real = batch["attention_mask"].bool()
            batch["labels"][:, 1:] = batch["input_ids"][:, 1:].where(real[:, 1:] & real[:, :-1], IGNORE)
        return batch

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        real = batch["attention_mask"].bool()
        read_BS = real[:, :-1] & real[:, 1:]  # a row's last token predicts nothing and has no state of its own
        embeddings = auxiliary_modules.unwrap_model(model).get_input_embeddings()
        terms: Terms = {}
        latent, semantic = [], []
        for k in range(2, self.heads + 1):
            ahead_BSD = auxiliary_modules.modules_of(model)[f"head_{k}"](output.states_BSD)
            # For each column but the last the label k columns on.
            labels_BS = F.pad(batch["labels"][:, k:], (0, k - 1), value=IGNORE)[:, : read_BS.shape[1]]
            labels_BS = labels_BS.where(read_BS, IGNORE)
            first = max(output.first - k, 0)  # no state before it has a label
            logits = unembed(model, ahead_BSD[:, first:])
            nats = token_nats(logits, labels_BS[:, first:])
            terms[f"head_{k}"] = (1.0, row_mean_sum(nats, labels_BS[:, first:].ne(IGNORE), output.labels_BT))
            later_BND = output.states_BSD[:, k - 1 :].detach()
            columns = later_BND.shape[1]
            distance = squared_error(ahead_BSD[:, :columns], later_BND)
            counted = read_BS[:, :columns] & read_BS[:, k - 1 :]
            latent.append(row_mean_sum(distance, counted, output.labels_BT))
            meant_BSD = embeddings(labels_BS.masked_fill(labels_BS.eq(IGNORE), self.pad_token_id)).detach()
            semantic.append(row_mean_sum(squared_error(ahead_BSD, meant_BSD), read_BS, output.labels_BT))
        if latent:
            terms["latent"] = (self.latent_weight, torch.stack(latent).sum())
            terms["semantic"] = (self.semantic_weight, torch.stack(semantic).sum())
        return terms
