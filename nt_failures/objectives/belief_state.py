"""Belief state: a forward and a backward encoder predict, for every gap in the target, the token at each end."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example, join, reverse_rows
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Loss, Objective, option
from nt_failures.objectives.decoding import Prefix, answer_columns, model_inputs, revealing_inputs
from nt_failures.objectives.losses import Batch, forward_pass, label_count, last_states, row_mean_sum, unembed


@dataclasses.dataclass(frozen=True)
class BeliefState(Objective):
    """Predict both ends of every gap between what stands before it and what stands behind it.

    For the target `32 34 6 16 12`, F reads the prefix and i target tokens, B the last tokens backwards:

        gap            F has read      B has read     predicted: first and last of the gap
        32 .. 12       x               -              32, 12
        34 .. 6        x 32            12 16          34, 6
        34             x 32            12 16 6        34, 34

    loss = mean over all gaps of (- log p(first) - log p(last)) / 2, on a joint head over [F ; B] (arXiv 2410.23506, eq.
    2). F is the model, B a second trunk of its kind with as many layers and the model's token embedding; the head is
    an MLP and the shared unembedding (ours; the source has two). Decoding is token by token by the joint head, B having
    read nothing; so the stock checkpoint alone does not decode.
    Relations: inputs and labels of `next_token`. Needs: hidden states.

    Args:
        pair_fraction: chance, above 0 to 1, that a gap is trained on in a batch.

    Example:
        >>> from nt_failures import BeliefState
        >>> batch = BeliefState().collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["gaps"].int().tolist()
        [[[1, 1, 1], [0, 1, 1], [0, 0, 1]]]
    """

    pair_fraction: float = option(1.0, most=1, above=True)

    needs = frozenset({"hidden_states"})
    stock = False
    citation = "Hu et al., The Belief State Transformer, ICLR 2025, arXiv 2410.23506"

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        auxiliary_modules.attach(
            model,
            start=nn.Embedding(1, width),
            backward=auxiliary_modules.encoder_like(model, layers=model.config.num_hidden_layers),
            pair=nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width)),
        )

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        batch = join(parts, target_BT, target_BT, self.pad_token_id)
        # Gap (i, m) reaches from target token i to m, both counted from 0.
        whole_TT = torch.ones(target_BT.shape[1], target_BT.shape[1], dtype=torch.bool).triu()
        gaps_BTT = whole_TT & target_BT.ne(IGNORE)[:, None, :]
        return batch | {"gaps": gaps_BTT & (torch.rand(gaps_BTT.shape) < self.pair_fraction)}

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        output = forward_pass(model, batch)
        labels_BT, gaps_BTT = output.labels_BT, batch["gaps"]
        rows, length = labels_BT.shape
        before_BTD, behind_BTD = output.label_states_BTD, self._behind(model, labels_BT)
        # The gap that ends at token m has length - 1 - m tokens behind it in a row of that length.
        last_B1 = labels_BT.ne(IGNORE).sum(dim=1)[:, None] - 1
        read_BT = (last_B1 - torch.arange(length, device=labels_BT.device)).clamp(min=0)
        behind_BTD = behind_BTD.gather(1, read_BT[:, :, None].expand_as(behind_BTD))
        ends = self._ends(
            model, before_BTD[:, :, None].expand(-1, -1, length, -1), behind_BTD[:, None].expand(-1, length, -1, -1)
        )
        wanted, sums = {"first": labels_BT[:, :, None], "last": labels_BT[:, None]}, {}
        for logits, (name, labels) in zip(ends, wanted.items(), strict=True):
            tokens = labels.expand_as(gaps_BTT).where(gaps_BTT, IGNORE).flatten()
            nats = F.cross_entropy(logits.flatten(0, 2), tokens, ignore_index=IGNORE, reduction="none")
            sums[name] = row_mean_sum(nats.view(rows, -1), gaps_BTT.flatten(1), labels_BT)
        parts = {name: value.detach() for name, value in sums.items()}
        return Loss((sums["first"] + sums["last"]) / 2, label_count(labels_BT), parts)

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        ids, mask = prefix
        for _ in range(int(lengths_B.max())):
            ids = torch.cat([ids, self._next(model, model_inputs(ids, mask), 1)], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        return ids[:, prefix[0].shape[1] :].where(answer_columns(lengths_B), IGNORE)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        ids_BT = self._next(model, revealing_inputs(*prefix, shown_BT), shown_BT.shape[1])
        return ids_BT.where(shown_BT.ne(IGNORE), IGNORE)

    def _next(self, model: PreTrainedModel, inputs: Mapping[str, Tensor], columns: int) -> Tensor:
        """The token (B, columns) behind each of the last columns, when nothing is known of what comes behind it."""
        output = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=1)
        before = last_states(model, output)[:, -columns:]
        nothing = self._behind(model, inputs["input_ids"][:, :0])
        return self._ends(model, before, nothing.expand_as(before))[0].argmax(dim=-1)

    def _behind(self, model: torch.nn.Module, labels_BT: Tensor) -> Tensor:
        """States (B, max(T, 1), D) of the backward encoder after 0, 1, .. of the last target tokens."""
        modules, inner = auxiliary_modules.modules_of(model), auxiliary_modules.unwrap_model(model)
        backwards = reverse_rows(labels_BT, labels_BT)[:, :-1]
        start = modules["start"].weight[None].expand(len(labels_BT), -1, -1)
        tokens = inner.get_input_embeddings()(backwards.clamp(min=0))
        embedded = torch.cat([start, tokens.to(start.dtype)], dim=1)
        states = modules["backward"](inputs_embeds=embedded, use_cache=False).last_hidden_state
        return states.to(inner.dtype)

    @staticmethod
    def _ends(model: torch.nn.Module, before: Tensor, behind: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (..., V) of a gap's first and last token."""
        states = auxiliary_modules.modules_of(model)["pair"](torch.cat([before, behind], dim=-1))
        first, last = states.chunk(2, dim=-1)
        return unembed(model, first).float(), unembed(model, last).float()
