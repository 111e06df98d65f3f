"""Joint multi-token prediction: the next tokens are decoded jointly from one state, which has to hold them all."""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, predicting
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.decoding import Prefix
from nt_failures.objectives.extra_loss import TeacherForced, Terms, weighed
from nt_failures.objectives.losses import (
    Batch,
    Loss,
    cross_entropy,
    last_states,
    row_mean_sum,
    states_of_pass,
    token_nats,
    unembed,
)
from nt_failures.objectives.options import option


class Fetch(nn.Module):
    """One causal self-attention over slots, each a mix of one state and one token's embedding; no MLP.

    Shapes: N states, K slots, H heads of width d, D = H d.

        slot 0        mix(h_c, E[x_c])      -> the next token, behind c
        slot k        mix(h_c, E[x_c+k])    -> the token behind c + k

    mix(h, e) = LayerNorm(e + gamma h). Scores are q k / sqrt(d) and a learned bias for each head and pair of slots.

    Args:
        width: D.
        heads: H, which divides D.
        slots: largest K, the horizon and one.
    """

    def __init__(self, width: int, heads: int, slots: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((1,), 0.1))
        self.mix = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(heads, slots, slots))
        self.norm = nn.RMSNorm(width, eps=1e-5)

    def forward(self, states_ND: Tensor, read_NKD: Tensor) -> Tensor:
        """What to unembed, (N, K, D): slot 0's attention alone for the next token, later slots' with the state added.

        `read_NKD` are the embeddings of the tokens in the slots.
        """
        mixed_NKD = self.mix(read_NKD + self.gamma * states_ND[:, None])
        rows, slots, width = mixed_NKD.shape
        heads = len(self.bias)
        split = (rows, slots, heads, width // heads)
        q, k, v = (x.reshape(split).transpose(1, 2) for x in self.qkv(mixed_NKD).chunk(3, dim=-1))
        scores_NHKK = q @ k.mT / (width // heads) ** 0.5 + self.bias[:, :slots, :slots]
        later_KK = torch.ones(slots, slots, dtype=torch.bool, device=scores_NHKK.device).triu(1)
        shares_NHKK = scores_NHKK.masked_fill(later_KK, -torch.inf).softmax(dim=-1)
        fetched_NKD = self.out((shares_NHKK @ v).transpose(1, 2).reshape(mixed_NKD.shape))
        without_K1 = torch.arange(slots, device=fetched_NKD.device)[:, None].clamp(max=1)
        return self.norm(fetched_NKD + without_K1 * states_ND[:, None])


@dataclasses.dataclass(frozen=True)
class JointMultiToken(TeacherForced):
    """Predict a window of tokens from each state, one after the other by a light module that sees nothing else.

    Inputs and labels are those of `next_token`. For the target `32 34 6 16 12` and window 4, from the state h of `=`:

        slot             0    1    2    3
        mixed with h     =   32   34    6        (true tokens; a slot sees itself and the earlier ones)
        predicts        32   34    6   16

    loss = CE of slot 0 + weight * mean over k = 1 .. window - 1 of the mean CE of slot k (arXiv 2503.21801). Slots are
    read by `Fetch`, one causal attention; slot 0's output, without a residual, replaces the model's own logits, in
    training and in decoding, so the stock checkpoint alone does not decode. Slot k of the state in column c predicts
    column c+k+1, where x_c+k is a target token: r_1 is no slot's label but 0's, and states before `=` count from k = 2
    on; their slots that hold a prompt token read token 0 instead. No gradient is stopped.
    A row's mean over the labels of a slot counts as its number of labels: equal to the mean over the batch where rows
    have equal lengths; else rows weigh by length, and accumulated batches add up to the whole one.
    Relations: `multi_token_heads` predicts the window's tokens independently. Needs: nothing. Equal to NextLat's
    code of it (2511.05963, golden), for the paper's own is not public; that has the end of a row as a last label,
    which rows have here only if their target ends in such a token.

    Args:
        window: tokens predicted from each state, the next one included, 2 to 256: the source's horizon + 1.
        weight: of the mean over the slots. The source's default is 1; swept from .1 to 1 in arXiv 2511.05963.

    Example:
        >>> from nt_failures import JointMultiToken
        >>> batch = JointMultiToken(window=3).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
    """

    window: int = option(4, least=2, most=256, whole=True)
    weight: float = option(1.0)

    stock = False
    citation = "Ahn et al., Efficient Joint Prediction of Multiple Future Tokens, arXiv 2503.21801"
    VERSION: ClassVar[int] = 2

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        most = min(4, getattr(model.config, "num_attention_heads", 4))  # a Mamba has none
        heads = auxiliary_modules.attention_heads(width, most)
        auxiliary_modules.attach(model, fetch=Fetch(width, heads, slots=self.window))

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        inputs, first = predicting(batch)
        states_BSD, labels = states_of_pass(model, **inputs), batch["labels"]
        labels_BT = labels[:, first:]
        # The state in column c meets the label of slot k in column c + k + 1, so from column first - k on.
        start = max(first - self.window + 1, 0)
        slots_BCKD = self._slots(model, states_BSD, batch["input_ids"], labels, start)
        terms: Terms = {}
        next_token = unembed(model, slots_BCKD[:, first - 1 - start :, 0])
        terms["next_token"] = (1.0, cross_entropy(next_token, labels_BT))
        slots = range(1, slots_BCKD.shape[2])
        steps = [self._slot_loss(model, k, slots_BCKD[:, :, k], start, batch, first) for k in slots]
        terms["window"] = (self.weight, torch.stack(steps).sum() / (self.window - 1))
        return weighed(terms, labels_BT)

    def _slots(self, model: torch.nn.Module, states_BSD: Tensor, ids: Tensor, labels: Tensor, start: int) -> Tensor:
        """What to unembed (B, C, K, D), for each state from column `start` on and each of its slots."""
        states_BCD = states_BSD[:, start:]
        columns = states_BCD.shape[1]
        slots = max(min(self.window, columns), 2)  # what lies further on is empty
        # -100, in the prompt and behind the end, is token 0.
        teacher_BS = F.pad(labels[:, start + 1 :].clamp(min=0), (0, slots - 1))
        tokens_BCK = torch.cat([ids[:, start:-1, None], teacher_BS.unfold(1, slots - 1, 1)[:, :columns]], dim=2)
        read = auxiliary_modules.unwrap_model(model).get_input_embeddings()(tokens_BCK).to(states_BCD.dtype)
        fetch = auxiliary_modules.modules_of(model)["fetch"]
        return fetch(states_BCD.flatten(0, 1), read.flatten(0, 1)).unflatten(0, states_BCD.shape[:2])

    @staticmethod
    def _slot_loss(model: torch.nn.Module, k: int, slot_BCD: Tensor, start: int, batch: Batch, first: int) -> Tensor:
        """The mean loss of slot k, times the number of labels. `slot_BCD` is of the states from column `start` on."""
        labels = batch["labels"]
        begin = max(first - k, start)  # the first column whose state has a label for slot k
        wanted, given = labels[:, begin + k + 1 :], labels[:, begin + k : -1]
        states = slot_BCD[:, begin - start :][:, : wanted.shape[1]]
        real = batch["attention_mask"][:, begin:][:, : wanted.shape[1]].bool()  # no state in a padded column
        counted = wanted.ne(IGNORE) & given.ne(IGNORE) & real
        return row_mean_sum(token_nats(unembed(model, states), wanted), counted, labels)

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        with self._logits_of_slot_0(model):
            return super().predict(model, prefix, lengths_B, decoding)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        with self._logits_of_slot_0(model):
            return super().predict_forced(model, prefix, shown_BT)

    @contextlib.contextmanager
    def _logits_of_slot_0(self, model: PreTrainedModel) -> Iterator[None]:
        """While it lasts, the model's logits are those of slot 0, also inside of `generate`."""
        original = model.forward

        @functools.wraps(original)  # `generate` reads from the signature what the model takes
        def forward(**kwargs: Any) -> Any:
            keep = kwargs.get("logits_to_keep", 0)  # 0 are all
            output = original(**kwargs | {"output_hidden_states": True, "logits_to_keep": 1})
            states_BSD = last_states(model, output)[:, -keep:]
            read = model.get_input_embeddings()(kwargs["input_ids"][:, -keep:]).to(states_BSD.dtype)
            fetch = auxiliary_modules.modules_of(model)["fetch"]
            slot_BSD = fetch(states_BSD.flatten(0, 1), read.flatten(0, 1)[:, None]).view_as(states_BSD)
            output = copy.copy(output)  # a pass may be remembered, whose logits must stay
            output.logits = unembed(model, slot_BSD)
            return output

        with auxiliary_modules.forward_as(model, forward):
            yield
