"""Belief state: a forward and a backward encoder predict, for every gap in the target, the token at each end."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example, join, position_ids, reverse_rows
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Loss, Objective
from nt_failures.objectives.losses import forward_pass, last_states, row_mean_sum, unembed


@dataclasses.dataclass(frozen=True)
class BeliefState(Objective):
    """Predict both ends of every gap between what stands before it and what stands behind it.

    For the target `32 34 6 16 12`, F reads the prefix and i target tokens, B the last tokens backwards:

        gap            F has read      B has read     predicted: first and last of the gap
        32 .. 12       x               -              32, 12
        34 .. 6        x 32            12 16          34, 6
        34             x 32            12 16 6        34, 34

    loss = mean over all gaps of (- log p(first) - log p(last)) / 2, on a joint head over [F ; B] (arXiv 2410.23506, eq. 2). The last
    token of a gap is predicted from a state that has not seen it: the state of F must hold the whole plan. F is the model, B a
    second trunk of its kind with the same number of layers and the model's token embedding; the head is an MLP, followed by the
    shared unembedding (ours; the source has two unembeddings). The count of gaps is quadratic in the target's length.
    Decoding is token by token with B having read nothing, by the joint head, so the stock checkpoint alone does not decode.
    Inputs and labels are those of `next_token`. Needs: hidden states.

    Args:
        pair_fraction: chance, above 0 to 1, that a gap is trained on in a batch.
    """

    pair_fraction: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"hidden_states"})
    citation: ClassVar[str] = "Hu et al., The Belief State Transformer, ICLR 2025, arXiv 2410.23506"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.pair_fraction <= 1:
            raise ValueError(f"pair_fraction={self.pair_fraction} is not above 0 and at most 1; 1 trains on every gap.")

    @property
    def stock(self) -> bool:
        return False

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        auxiliary_modules.attach(
            model,
            start=nn.Embedding(1, width),
            backward=auxiliary_modules.encoder_like(model, layers=model.config.num_hidden_layers),
            pair=nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width)),
        )

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        batch = join(parts, target_BT, target_BT, self.pad_token_id)
        # Gap (i, m) reaches from target token i to m, both counted from 0.
        whole_TT = torch.ones(target_BT.shape[1], target_BT.shape[1], dtype=torch.bool).triu()
        gaps_BTT = whole_TT & target_BT.ne(IGNORE)[:, None, :]
        return batch | {"gaps": gaps_BTT & (torch.rand(gaps_BTT.shape) < self.pair_fraction)}

    def loss(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Loss:
        seen = forward_pass(model, batch)
        labels_BT, gaps_BTT = seen.labels_BT, batch["gaps"]
        length = labels_BT.shape[1]
        before_BTD, behind_BTD = seen.states_BSD[:, seen.first - 1 :], self._behind(model, labels_BT)
        # The gap that ends at token m has length - 1 - m tokens behind it in a row of that length.
        read_BT = (labels_BT.ne(IGNORE).sum(dim=1)[:, None] - 1 - torch.arange(length, device=labels_BT.device)).clamp(
            min=0
        )
        behind_BTD = behind_BTD.gather(1, read_BT[:, :, None].expand_as(behind_BTD))
        first, last = self._ends(
            model,
            before_BTD[:, :, None].expand(-1, -1, length, -1),
            behind_BTD[:, None].expand(-1, length, -1, -1),
        )
        rows = (len(labels_BT), -1)
        counted = gaps_BTT.reshape(rows)
        wanted = {"first": labels_BT[:, :, None].expand_as(gaps_BTT), "last": labels_BT[:, None, :].expand_as(gaps_BTT)}
        sums = {}
        for name, logits in (("first", first), ("last", last)):
            tokens = wanted[name].where(gaps_BTT, IGNORE)
            nats = F.cross_entropy(logits.flatten(0, 2), tokens.flatten(), ignore_index=IGNORE, reduction="none")
            sums[name] = row_mean_sum(nats.view(rows), counted, labels_BT)
        total = (sums["first"] + sums["last"]) / 2
        return Loss(total, labels_BT.ne(IGNORE).sum(), {name: s.detach() for name, s in sums.items()})

    @torch.no_grad()
    def decode(
        self,
        model: PreTrainedModel,
        prefix_ids: torch.Tensor,
        length: int | torch.Tensor,
        prefix_mask: torch.Tensor | None = None,
        decoding: str | None = None,
        shown: torch.Tensor | None = None,
    ) -> torch.Tensor:
        _, lengths_B, mask = self.asked(model, prefix_ids, length, prefix_mask, decoding)
        steps = int(lengths_B.max())
        if shown is not None:
            real_BT = shown.ne(IGNORE)
            ids, mask = (
                torch.cat([prefix_ids, shown.where(real_BT, prefix_ids[:, -1:])], dim=1),
                torch.cat([mask, real_BT.to(mask.dtype)], dim=1),
            )
            ids_BT = self._next(model, ids[:, :-1], mask[:, :-1], steps)
        else:
            ids = prefix_ids
            for _ in range(steps):
                ids = torch.cat([ids, self._next(model, ids, mask, 1)], dim=1)
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            ids_BT = ids[:, -steps:]
        columns_T = torch.arange(steps, device=ids.device)
        return self.reorder(ids_BT.where(columns_T < lengths_B[:, None], IGNORE))

    def _next(self, model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, columns: int) -> torch.Tensor:
        """The token (B, columns) behind each of the last columns, nothing being known of what comes behind it."""
        inputs = {"input_ids": ids, "attention_mask": mask}
        if not bool(mask.all()):
            inputs["position_ids"] = position_ids(mask)
        found = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=1)
        before = last_states(model, found)[:, -columns:]
        nothing = self._behind(model, ids[:, :0])
        first, _ = self._ends(model, before, nothing.expand_as(before))
        return first.argmax(dim=-1)

    def _behind(self, model: torch.nn.Module, labels_BT: torch.Tensor) -> torch.Tensor:
        """States of B after 0, 1, .. of the last target tokens, (B, max(T, 1), D); all but the first token are ever read."""
        modules, plain = auxiliary_modules.attached(model), auxiliary_modules.unwrap_model(model)
        backwards = reverse_rows(labels_BT)[:, :-1]
        start = modules["start"].weight[None].expand(len(labels_BT), -1, -1)
        tokens = plain.get_input_embeddings()(backwards.clamp(min=0))
        embedded = torch.cat([start, tokens.to(start.dtype)], dim=1)
        states = modules["backward"](inputs_embeds=embedded, use_cache=False).last_hidden_state
        return states.to(plain.dtype)

    @staticmethod
    def _ends(model: torch.nn.Module, before: torch.Tensor, behind: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (..., V) of a gap's first and last token."""
        states = auxiliary_modules.attached(model)["pair"](torch.cat([before, behind], dim=-1))
        first, last = states.chunk(2, dim=-1)
        return unembed(model, first).float(), unembed(model, last).float()
