"""Registers: extra tokens behind `=` and behind the target's tokens predict a token further ahead."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example, join, position_ids
from nt_failures.models.attention_masks import causal
from nt_failures.models.capabilities import capabilities
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.objectives.decoding import Prefix, by_forcing, greedy, revealing_inputs
from nt_failures.objectives.extra_loss import weighed
from nt_failures.objectives.losses import Batch, Loss, cross_entropy, masked_logits, row_mean_sum, token_nats
from nt_failures.objectives.options import option


@dataclasses.dataclass(frozen=True)
class Registers(Objective):
    """Predict the next token; and from a register behind `=` and each target token, the token `d` further on.

    For the target `32 34 6 16 12` and d = 3, R a register. Its column does not matter, so all stand at the end:

        input_ids      ..   12    =   32   34    6   16   12     R    R    R    R    R
        position_ids   ..   25   26   27   28   29   30   31    28   29   30   31   31    (column of the label) - 1
        sees up to                                               =   32   34    6   16    and itself, no other register
        predicts                 32   34    6   16   12          6   16   12    -    -

    loss of a row = (1 - share) * mean CE of the target tokens + share * mean CE of the registers that have a label
    (arXiv 2505.10518, section 3), d drawn uniformly for each row from min_distance .. max_distance, its target's length
    at most. At d = 1 a register could be looked up, so the source's path-star runs begin with 2. All registers share
    one embedding of their own, saved beside the model; tokens never see a register, so the stock model decodes.

    Equal to the authors' code (golden), the causal prompt derived from it. The code of their path-star runs is not
    public, and whether these had a register behind `=` or a prompt that looks both ways, as the public one, is not
    known. Their batch is one row, so rows weigh the same; here a row weighs by its number of labels, as everywhere, so
    accumulated batches add up as one batch would: the same for rows of one length. A target shorter than min_distance
    has no register with a label, and that part is 0. Their register is a token of the vocabulary, with a logit that is
    never right; this one has no logit.
    Relations: `multi_token_heads` predicts ahead from the states themselves. Needs: a 4-D mask.

    Args:
        max_distance: the largest d. The source takes 4 for paths of 5 and, with share 0.3, 6 for paths of 10, in
            GPT-2's tokens, commas among them: about half as many nodes.
        share: a, of the registers in the loss, 0..1.
        min_distance: the smallest d, from 1; 2 in the source's path-star runs, 1 in its code.
        prompt_attention: "causal", as a stock model decodes, or "bidirectional", where prompt tokens see each other
            both ways: trained and decoded by this package alone, without a cache.

    Example:
        >>> from nt_failures import Registers
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> batch = Registers(max_distance=2, pad_token_id=14).collate(rows)
        >>> batch["input_ids"].tolist(), batch["register_labels"].tolist()
        ([[1, 2, 7, 8, 9, 14, 14, 14]], [[8, 9, -100]])
    """

    max_distance: int = option(4, least=1, whole=True)
    share: float = option(0.5, most=1)
    min_distance: int = option(2, least=1, whole=True)
    prompt_attention: str = option("causal", choices=("causal", "bidirectional"))

    VERSION: ClassVar[int] = 2
    needs = frozenset({"4d_mask"})
    citation = "Gerontopoulos et al., Multi-Token Prediction Needs Registers, arXiv 2505.10518"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_distance < self.min_distance:
            raise ValueError(f"max_distance={self.max_distance} is below min_distance={self.min_distance}; raise it.")

    @property
    def stock(self) -> bool:
        return self.prompt_attention == "causal"

    def attach(self, model: PreTrainedModel) -> None:
        if not self.stock and "bidirectional" not in capabilities(model):
            lacks = f"{type(model).__name__} does not let a token see later ones"
            raise ValueError(f"{lacks}, as prompt_attention='bidirectional' needs; give 'causal'.")
        auxiliary_modules.attach(model, register=nn.Embedding(1, model.config.hidden_size))

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT, prefix_B1 = parts["target_ids"], parts["prefix_mask"].sum(dim=1, keepdim=True)
        batch = join(parts, target_BT, target_BT, self.pad_token_id)
        real_BT = target_BT.ne(IGNORE)
        length_B1 = real_BT.sum(dim=1, keepdim=True)
        choices_B1 = (length_B1.clamp(max=self.max_distance) - self.min_distance + 1).clamp(min=0)
        distance_B1 = self.min_distance + (torch.rand(len(target_BT), 1) * choices_B1).long()
        wanted_BT = torch.arange(target_BT.shape[1]) + distance_B1 - 1  # the label's place in the target, from 0
        labelled_BT = wanted_BT < length_B1
        labels_BT = target_BT.gather(1, wanted_BT.where(labelled_BT, 0)).where(labelled_BT, IGNORE)
        places_BT = prefix_B1 - 1 + wanted_BT.where(labelled_BT, length_B1)
        # The ids of registers stand for nothing: `loss` puts their embedding there.
        ids_BT = torch.full_like(target_BT, self.pad_token_id)
        return {
            "input_ids": torch.cat([batch["input_ids"], ids_BT], dim=1),
            "attention_mask": torch.cat([batch["attention_mask"], real_BT.long()], dim=1),
            "position_ids": torch.cat([position_ids(batch["attention_mask"]), places_BT], dim=1),
            "labels": torch.cat([batch["labels"], torch.full_like(target_BT, IGNORE)], dim=1),
            "register_labels": labels_BT,
        }

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        wanted_BT = batch["register_labels"]
        rows, length = wanted_BT.shape
        first = batch["input_ids"].shape[1] - 2 * length
        tokens = auxiliary_modules.unwrap_model(model).get_input_embeddings()(batch["input_ids"][:, :-length])
        register = auxiliary_modules.modules_of(model)["register"].weight[None].expand(rows, length, -1)
        embedded = {"inputs_embeds": torch.cat([tokens, register.to(tokens.dtype)], dim=1)}
        seen_BSS = self.seen(batch["attention_mask"], first, length)
        logits_BSV = masked_logits(model, {**batch, **embedded}, seen_BSS, 2 * length + 1)
        labels_BT = batch["labels"][:, first:-length]
        next_token = cross_entropy(logits_BSV[:, :length], labels_BT)
        nats_BT = token_nats(logits_BSV[:, length + 1 :], wanted_BT)
        further = row_mean_sum(nats_BT, wanted_BT.ne(IGNORE), labels_BT)
        return weighed({"next_token": (1 - self.share, next_token), "registers": (self.share, further)}, labels_BT)

    def seen(self, real_BS: Tensor, first: int, registers: int) -> Tensor:
        """Who sees whom, (B, S, S), where the target begins in column `first` and `registers` end the row.

        Tokens are causal, or the prompt sees itself both ways; register r sees tokens before column `first` + r, and
        itself.
        """
        seen_BSS = causal(real_BS)
        tokens = real_BS.shape[1] - registers
        if not self.stock:
            seen_BSS[:, :first, :first] = real_BS[:, None, :first].bool()
        numbers_R1 = torch.arange(registers, device=real_BS.device)[:, None]
        columns_S = torch.arange(real_BS.shape[1], device=real_BS.device)
        seen_RS = (columns_S < first + numbers_R1) | (columns_S == tokens + numbers_R1)
        seen_BSS[:, tokens:] = seen_RS & real_BS[:, None, :].bool()
        return seen_BSS

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        if self.stock:
            return super().predict(model, prefix, lengths_B, decoding)
        return by_forcing(lambda shown_BT: self.predict_forced(model, prefix, shown_BT), lengths_B)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        if self.stock:
            return super().predict_forced(model, prefix, shown_BT)
        inputs = revealing_inputs(*prefix, shown_BT)
        inputs["position_ids"] = position_ids(inputs["attention_mask"])
        seen_BSS = self.seen(inputs["attention_mask"], prefix[0].shape[1], 0)
        logits_BTV = masked_logits(model, inputs, seen_BSS, shown_BT.shape[1])
        return greedy(logits_BTV, shown_BT)
