"""Sequential heads: one block behind another, each reads the true next token, too, and predicts one token further."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.objectives import auxiliary_modules, drafting, last_block
from nt_failures.objectives.base import target_logits
from nt_failures.objectives.extra_loss import TeacherForced, Terms, weighed
from nt_failures.objectives.losses import Batch, Loss, ahead_loss, cross_entropy
from nt_failures.objectives.options import option


class Depth(torch.nn.Module):
    """What one depth adds: two norms, M, which makes one vector of a state and an embedding, and a block."""

    def __init__(self, width: int, block: torch.nn.Module) -> None:
        super().__init__()
        self.state_norm = torch.nn.RMSNorm(width, eps=1e-6)
        self.token_norm = torch.nn.RMSNorm(width, eps=1e-6)
        self.merge = torch.nn.Linear(2 * width, width, bias=False)
        self.block = block

    def forward(self, states_BSD: Tensor, tokens_BSD: Tensor, call: last_block.Call) -> Tensor:
        """States (B, S, D) of this depth from those of the one before and the embeddings of the tokens it reads."""
        states_BSD = states_BSD.to(self.state_norm.weight.dtype)  # float32 from a Mamba in bfloat16
        both = torch.cat([self.state_norm(states_BSD), self.token_norm(tokens_BSD)], dim=-1)
        (_, *others), kwargs = call
        return last_block.states_of(self.block, ((self.merge(both), *others), kwargs))


@dataclasses.dataclass(frozen=True)
class SequentialHeads(TeacherForced):
    """Predict tokens behind the next one by a chain of blocks, each of which is shown the token before its own.

    For the target `32 34 6 16 12` and two depths (inputs and labels are those of `next_token`; a depth joins a state of
    the one before it, `+`, with the last token before the label):

        input_ids         ...   32   12    =   32   34    6   16   12
        next token        = -> 32;      32 -> 34;      34 ->  6;       6 -> 16;      16 -> 12
        depth 1      12 + = -> 32;  = + 32 -> 34; 32 + 34 ->  6; 34 +  6 -> 16;  6 + 16 -> 12
        depth 2      32 + = -> 32; 12 + 32 -> 34;  = + 34 ->  6; 32 +  6 -> 16; 34 + 16 -> 12

    loss = CE + weight / depths * sum_k mean over the columns c whose c+k+1 is a target token of - log p_k(x_c+k+1),
    with p_k = softmax(U norm(h^k)) and h^k_c = block_k(M_k [RMSNorm(h^k-1_c); RMSNorm(E[x_c+k])]) (arXiv 2412.19437,
    eq. 21-25). h^0 is the trunk's output before its final norm, E, U and norm are the model's own, each block is a new
    one of the class of its last. h^k goes on to the next depth without the norm, an assumption: the paper says only
    that the head is shared. Labels of states before `=` count: each depth has all T labels of a row. The paper's eq. 24
    also counts the prompt's tokens, and divides by the number of inputs instead of that of labels. Decoding: the stock
    model; depths are dropped, or draft (the paper: too), which changes no token of a greedy answer.
    A row whose prompt is no longer than k lacks labels of depth k: its mean counts as its T labels do. So rows of
    unequal lengths weigh by T, and accumulated batches add up to the whole one.

    Relations: `multi_token_heads` predicts the same tokens without being shown those between; here every token before
    the label is shown, the last ones behind the trunk.
    Needs: a trunk of blocks and one norm. By the paper's formula (golden); with `form="transformers"` equal to
    transformers' code (golden, float32).

    Args:
        depths: tokens predicted beside the next one, 1 to 64. The source has 1.
        weight: of the mean over the depths; 0.3 in the source, later 0.1.
        form: `"paper"`, or `"transformers"` for the layers that transformers (`MtpLayer`) drafts with, on models built
            as Llama: M_k takes the embedding first, h^0 is behind the final norm, and each depth ends with a norm of
            its own in the final norm's place, behind which the next depth reads, too. They are saved in the stock
            checkpoint, and `generate(use_mtp=True)` drafts with them (MULTI_TOKEN_FOR_TRL.md). At most as many depths
            as the model has blocks.

    Example:
        >>> from nt_failures import SequentialHeads
        >>> batch = SequentialHeads().collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
    """

    depths: int = option(1, least=1, most=64, whole=True)
    weight: float = option(0.3)
    form: str = option("paper", choices=("paper", "transformers"))

    citation = "DeepSeek-AI, DeepSeek-V3 Technical Report, 2024, arXiv 2412.19437"

    def attach(self, model: PreTrainedModel) -> None:
        if self.form == "transformers":
            drafting.attach_layers(model, self.depths)
            return
        width = model.get_input_embeddings().weight.shape[1]
        depths = {f"depth_{k}": Depth(width, last_block.new_block(model)) for k in range(1, self.depths + 1)}
        auxiliary_modules.attach(model, **depths)

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        (blocks, norm), modules = last_block.parts(model), auxiliary_modules.modules_of(model)
        with last_block.calls_of(blocks[-1]) as calls, last_block.calls_of(norm) as normed:
            logits_BTV, labels_BT = target_logits(model, batch)
        (call,), ((states_BSD, *_), _) = calls, normed[0]
        embed = auxiliary_modules.unwrap_model(model).get_input_embeddings()
        drafts = self.form == "transformers"
        if drafts:
            states_BSD = norm(states_BSD)
        terms: Terms = {"next_token": (1.0, cross_entropy(logits_BTV, labels_BT))}
        for k, depth in enumerate(modules["layers"] if drafts else modules.values(), start=1):
            # Column c reads token c + k. Columns without one read token 0: they predict nothing, and none sees them.
            ids_BS = F.pad(batch["input_ids"], (0, k))[:, k : k + states_BSD.shape[1]]
            tokens_BSD = embed(ids_BS)
            # Positions are the trunk's c where transformers has c + k: rotary attention sees how far apart two are.
            states_BSD = depth(tokens_BSD, states_BSD, **call[1]) if drafts else depth(states_BSD, tokens_BSD, call)
            nats = ahead_loss(model, states_BSD if drafts else norm(states_BSD), k + 1, batch, labels_BT)
            terms[f"depth_{k}"] = (self.weight / self.depths, nats)
        return weighed(terms, labels_BT)
