"""Registers: extra tokens behind the target's tokens predict a token further ahead."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from nt_failures.data.batches import IGNORE, Example, first_label, join, position_ids
from nt_failures.models.attention_masks import causal
from nt_failures.objectives.base import Loss, Objective, option
from nt_failures.objectives.losses import Batch, cross_entropy, label_count, masked_logits, row_mean_sum, token_nats


@dataclasses.dataclass(frozen=True)
class Registers(Objective):
    """Predict the next token; and from a register behind each target token, the token `d` steps further on.

    For the target `32 34 6 16 12` and d = 2. A register's column does not matter, so all stand at the end:

        input_ids     ...   12    =   32   34    6   16   12    $    $    $
        position_ids  ...   25   26   27   28   29   30   31   28   29   30     that of the token before the label
        sees                                                   <=32 <=34 <=6    and itself
        predicts      ...        32   34    6   16   12         6   16   12

    loss = (1 - share) * CE_tokens + share * CE_registers, d drawn for each batch from 2 .. max_distance (arXiv
    2505.10518, section 3); distance 1 could be looked up. Tokens never see a register, so the stock model decodes.
    Relations: `multi_token_heads` predicts ahead from the states themselves. Needs: a 4-D mask.

    Args:
        max_distance: the largest d, from 2, but less than the target's length. The source takes 4 for paths of 5.
        share: of the registers in the loss, 0..1.

    Example:
        >>> from nt_failures import Registers
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> Registers(max_distance=2, dummy_token_id=13).collate(rows)["input_ids"].tolist()
        [[1, 2, 7, 8, 9, 13]]
    """

    max_distance: int = option(4, least=2, whole=True)
    share: float = option(0.5, most=1)

    extra_tokens = ("$",)
    needs = frozenset({"4d_mask"})
    citation = "Gerontopoulos et al., Multi-Token Prediction Needs Registers, arXiv 2505.10518"

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        batch = join(parts, target_BT, target_BT, self.pad_token_id)
        farthest = min(self.max_distance, target_BT.shape[1] - 1)
        distance = int(torch.randint(2, farthest + 1, ())) if farthest >= 2 else target_BT.shape[1]
        wanted_BR = target_BT[:, distance:]
        empty_BR = wanted_BR.eq(IGNORE)
        registers_BR = torch.full_like(wanted_BR, self.dummy_token_id).masked_fill(empty_BR, self.pad_token_id)
        places = position_ids(batch["attention_mask"])
        first = parts["prefix_ids"].shape[1] + distance - 1
        places_BR = places[:, first : first + wanted_BR.shape[1]]
        return {
            "input_ids": torch.cat([batch["input_ids"], registers_BR], dim=1),
            "attention_mask": torch.cat([batch["attention_mask"], (~empty_BR).long()], dim=1),
            "position_ids": torch.cat([places, places_BR], dim=1),
            "labels": torch.cat([batch["labels"], torch.full_like(wanted_BR, IGNORE)], dim=1),
            "register_labels": wanted_BR,
        }

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        wanted_BR = batch["register_labels"]
        registers, columns, first = wanted_BR.shape[1], batch["input_ids"].shape[1], first_label(batch)
        seen_BSS = self.mask(batch["attention_mask"], first, registers)
        logits_BSV = masked_logits(model, batch, seen_BSS, columns - first + 1)
        tokens = columns - registers - first
        labels_BT = batch["labels"][:, first : first + tokens]
        next_token = cross_entropy(logits_BSV[:, :tokens], labels_BT)
        nats_BR = token_nats(logits_BSV[:, tokens + 1 :], wanted_BR)
        further = row_mean_sum(nats_BR, wanted_BR.ne(IGNORE), labels_BT)
        parts = {"next_token": next_token.detach(), "registers": further.detach()}
        return Loss((1 - self.share) * next_token + self.share * further, label_count(labels_BT), parts)

    @staticmethod
    def mask(real_BS: Tensor, first: int, registers: int) -> Tensor:
        """Who sees whom, (B, S, S): tokens are causal; register r sees the prefix, target tokens <= r and itself."""
        seen_BSS = causal(real_BS)
        tokens = real_BS.shape[1] - registers
        numbers_R1 = torch.arange(registers, device=real_BS.device)[:, None]
        columns_S = torch.arange(real_BS.shape[1], device=real_BS.device)
        seen_RS = (columns_S <= first + numbers_R1) | (columns_S == tokens + numbers_R1)
        seen_BSS[:, tokens:] = seen_RS & real_BS[:, None, :].bool()
        return seen_BSS
