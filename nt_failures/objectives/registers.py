"""Registers: extra tokens behind the target's tokens predict a token further ahead."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from nt_failures.data.batches import IGNORE, Example, first_label, join, position_ids
from nt_failures.models.attention_masks import additive, causal
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Loss, Objective
from nt_failures.objectives.losses import cross_entropy, row_mean_sum


@dataclasses.dataclass(frozen=True)
class Registers(Objective):
    """Predict the next token; and from a register behind each target token, the token `d` steps further on.

    For the target `32 34 6 16 12` and d = 2. A register's place in the row is of no matter, so all stand at the end:

        input_ids     ...   12    =   32   34    6   16   12    $    $    $
        position_ids  ...   25   26   27   28   29   30   31   28   29   30     that of the token before the label
        sees                                                   <=32 <=34 <=6    and itself
        predicts      ...        32   34    6   16   12         6   16   12

    loss = (1 - share) * CE_tokens + share * CE_registers, d drawn for each batch from 2 .. max_distance (arXiv 2505.10518, section
    3). Distance 1 is left out: it could be looked up. Ordinary tokens never see a register, so decoding is that of
    `next_token` with the stock model. Relations: `multi_token_heads` predicts further ahead from the states themselves.
    Needs: a 4-D mask.

    Args:
        max_distance: the largest d, from 2; no more than the target's length - 1 is ever drawn. The source takes 4 for paths of 5.
        share: of the registers in the loss, 0..1.
    """

    max_distance: int = 4
    share: float = 0.5

    extra_tokens: ClassVar[tuple[str, ...]] = ("$",)
    needs: ClassVar[frozenset[str]] = frozenset({"4d_mask"})
    citation: ClassVar[str] = "Gerontopoulos et al., Multi-Token Prediction Needs Registers, arXiv 2505.10518"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.max_distance, int) and self.max_distance >= 2):
            raise ValueError(f"max_distance={self.max_distance!r} must be a whole number from 2; 1 could be looked up.")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share={self.share} is not in 0..1; 0.5 weighs registers and tokens alike.")

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        batch = join(parts, target_BT, target_BT, self.pad_token_id)
        places = position_ids(batch["attention_mask"])
        farthest = min(self.max_distance, target_BT.shape[1] - 1)
        distance = int(torch.randint(2, farthest + 1, ())) if farthest >= 2 else target_BT.shape[1]
        wanted_BR = target_BT[:, distance:]
        first = parts["prefix_ids"].shape[1]
        places_BR = places[:, first + distance - 1 : first + distance - 1 + wanted_BR.shape[1]]
        registers_BR = torch.full_like(wanted_BR, self.dummy_token_id).masked_fill(
            wanted_BR.eq(IGNORE), self.pad_token_id
        )
        return {
            "input_ids": torch.cat([batch["input_ids"], registers_BR], dim=1),
            "attention_mask": torch.cat([batch["attention_mask"], wanted_BR.ne(IGNORE).long()], dim=1),
            "position_ids": torch.cat([places, places_BR], dim=1),
            "labels": torch.cat([batch["labels"], torch.full_like(wanted_BR, IGNORE)], dim=1),
            "register_labels": wanted_BR,
        }

    def loss(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        registers = batch["register_labels"].shape[1]
        columns = batch["input_ids"].shape[1]
        first = first_label(batch)
        mask = additive(
            self.mask(batch["attention_mask"], first, registers), auxiliary_modules.unwrap_model(model).dtype
        )
        logits_BSV = model(
            input_ids=batch["input_ids"],
            attention_mask=mask,
            position_ids=batch["position_ids"],
            use_cache=False,
            logits_to_keep=columns - first + 1,
        ).logits
        ordinary, ahead = logits_BSV[:, : columns - registers - first], logits_BSV[:, columns - registers - first + 1 :]
        labels_BT = batch["labels"][:, first : columns - registers]
        tokens = cross_entropy(ordinary, labels_BT)
        nats_BR = torch.nn.functional.cross_entropy(
            ahead.float().transpose(1, 2), batch["register_labels"], ignore_index=IGNORE, reduction="none"
        )
        further = row_mean_sum(nats_BR, batch["register_labels"].ne(IGNORE), labels_BT)
        parts = {"next_token": tokens.detach(), "registers": further.detach()}
        return Loss((1 - self.share) * tokens + self.share * further, labels_BT.ne(IGNORE).sum(), parts)

    @staticmethod
    def mask(real_BS: torch.Tensor, first: int, registers: int) -> torch.Tensor:
        """Who sees whom, (B, S, S): tokens are causal and see no register; register r sees up to target token r and itself."""
        seen_BSS = causal(real_BS)
        if registers:
            tokens = real_BS.shape[1] - registers
            numbers_R = torch.arange(registers, device=real_BS.device)
            columns_S = torch.arange(real_BS.shape[1], device=real_BS.device)
            own_RS = columns_S == (tokens + numbers_R)[:, None]
            earlier_RS = columns_S <= (first + numbers_R)[:, None]
            seen_BSS[:, tokens:] = (earlier_RS | own_RS) & real_BS[:, None, :].bool()
        return seen_BSS
