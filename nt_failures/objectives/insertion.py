"""Insertion: tokens are put in between those that stand there already, at any place, until a head says that all do.

Shapes: B rows, P prefix columns, T target columns, S = P + T, C columns behind which a token can go, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nt_failures.data.batches import IGNORE, Example, position_ids
from nt_failures.models.attention_masks import additive, full
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.base import Objective
from nt_failures.objectives.decoding import Prefix
from nt_failures.objectives.extra_loss import weighed
from nt_failures.objectives.losses import Batch, Loss, at_least_float32, last_states
from nt_failures.objectives.options import option
from nt_failures.objectives.two_sided import drawn_columns

STOP, GO_ON = 0, 1
"""Classes of the stop head."""


class StopHead(nn.Module):
    """From the state of CLS to the logits of `STOP` and `GO_ON`: an MLP with LayerNorm and residual, then a matrix.

    The source's has a dropout of 0.1 behind the MLP, left out here, and reads a state without the trunk's last norm.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.classes = nn.Linear(width, 2, bias=False)

    def forward(self, states_BD: Tensor) -> Tensor:
        """Logits (B, 2)."""
        return self.classes(states_BD + self.down(self.up(self.norm(states_BD)).tanh()))


@dataclasses.dataclass(frozen=True)
class Insertion(Objective):
    """Drop any number of target tokens, and predict all of them and where they go, or that none is missing (ILM).

    The target `32 34 6 16 12`, of which n = 3 were drawn, attention in both directions, CLS a token of our own:

        input_ids      ..   12    =   32    .    6    .    .  CLS
        position_ids   ..   27   28   29    .   30    .    .    0     (ranks; CLS is the first)
        seen by all    ..  yes  yes  yes   no  yes   no   no  yes
        to be inserted                34      16, 12                  (behind 32 and behind 6; behind = stands none)
        labels         .. -100 -100 -100 -100 -100 -100 -100    1     (1: go on, 0: stop, where n = 0)

    loss of a row = - 1/n * sum over the dropped r_i of log softmax(z)[c_i, r_i] - log q(label | CLS), c_i the column of
    the last token before r_i that is kept, the softmax over all pairs of a token and a column that is seen, the
    prompt's included, but not CLS; n is uniform in 0 .. T, and the first sum is 0 for n = 0 (arXiv 2505.05755). The
    mean is over rows, each of which has one label, so also under gradient accumulation. Equal to the authors' code
    (golden): loss, gradients, who sees whom, positions, decoding token for token.

    The source's row is CLS, prompt, BOS, target. Here CLS has a learned embedding, saved beside the model, and no
    logit. It is the last column: in attention both ways the column does not matter, only the position, which is the
    source's. BOS, which ends the prompt there, is the prompt's own last token here (`=`). Where a token was dropped the
    source has a mask token that nobody sees; here it is padding. So a row takes one position more than prompt and
    target have.
    Decoding: a pass stops a row for good where q(stop) >= threshold, else inserts one token, greedily: into the row as
    it stands, behind the prompt's last token or one inserted before. A row makes as many passes as the answer has
    tokens, at most. One that stops too early has -100 at its end, where the source goes on with mask tokens that nobody
    sees; -100 equals no token and is wrong. The source's sampling is not here.
    Insertion has no order of its own. In "reversed" order the row is mirrored: a token goes behind the one that comes
    next in the answer, and = is before the last one.
    Forced predictions: the earlier tokens are given, and the decoder completes the answer behind them; its token in
    that place counts. The best single token there is no measure: all that come later are right alike. It takes
    T (T + 1) / 2 passes. Judged are free predictions. The stock model cannot decode it.
    The softmax over all columns makes the level of logits count. The source's unembedding is a matrix of its own; tied
    to the embedding, as GPT-2's is, it learns later: on G(2,3) with 6 labels, 2 layers of 64, batches of 64 and rate
    1e-3 its loss fell below that of guessing after 1,000 steps; untied, by
    `--config_overrides '{"tie_word_embeddings": false}'`, after 200 (one seed each).
    Relations: `uniform_mask` shows how many tokens are missing between two, and predicts each in its place;
    `masked_diffusion` can also take tokens back. Needs: a 4-D mask, attention in both directions.

    Args:
        threshold: probability from which `STOP` ends a row; 0.5 in the source's star-graph recipe, 0.9 its default.
        choice: `"column"`, the column with the most probability in all, then its best token (the source's star-graph
            recipe), or `"pair"`, the best pair of both.
        special_ids: never inserted; `from_tokenizer` gives the tokenizer's special tokens, as in the source.

    Example:
        >>> import torch
        >>> from nt_failures import Insertion
        >>> _ = torch.manual_seed(4)
        >>> batch = Insertion(pad_token_id=14).collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])
        >>> batch["input_ids"].tolist(), batch["dropped_ids"].tolist(), batch["behind"].tolist()
        ([[1, 2, 7, 14, 14, 14]], [[-100, 8, 9]], [[2, 2, 2]])
    """

    threshold: float = option(0.5, most=1, above=True)
    choice: str = option("column", choices=("column", "pair"))
    special_ids: tuple[int, ...] = option((), whole=True, several=True)

    needs = frozenset({"4d_mask", "bidirectional"})
    decodings = ("insertion",)
    extra_positions = 1
    citation = (
        "Patel et al., Insertion Language Models: Sequence Generation with Arbitrary-Position Insertions, "
        "arXiv 2505.05755"
    )

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, **options: Any) -> "Insertion":
        special = {"special_ids": tuple(sorted({*tokenizer.all_special_ids}))}
        return super().from_tokenizer(tokenizer, **{**special, **options})

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        auxiliary_modules.attach(model, cls=nn.Embedding(1, width), stop=StopHead(width))

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT, first = parts["target_ids"], parts["prefix_ids"].shape[1]
        real_BT = target_BT.ne(IGNORE)
        number_B1 = (torch.rand(len(target_BT), 1) * (1 + real_BT.sum(dim=1, keepdim=True))).long()
        dropped_BT = drawn_columns(real_BT, number_B1)
        kept_BT = real_BT & ~dropped_BT
        batch = self._inputs((parts["prefix_ids"], parts["prefix_mask"]), target_BT.where(kept_BT, IGNORE))
        labels = torch.full_like(batch["input_ids"], IGNORE)
        labels[:, -1:] = torch.where(number_B1 == 0, STOP, GO_ON)
        columns_T = torch.arange(first, first + target_BT.shape[1])
        behind_BT = columns_T.where(kept_BT, first - 1).cummax(dim=1).values
        return batch | {"labels": labels, "dropped_ids": target_BT.where(dropped_BT, IGNORE), "behind": behind_BT}

    def _inputs(self, prefix: Prefix, ids_BT: Tensor) -> dict[str, Tensor]:
        """Ids, mask and positions (B, S + 1) of a row with CLS, whose tokens behind the prefix are those not -100."""
        there_BT = ids_BT.ne(IGNORE)
        ids = torch.cat([prefix[0], ids_BT.where(there_BT, self.pad_token_id)], dim=1)
        mask = torch.cat([prefix[1], there_BT.to(prefix[1].dtype)], dim=1)
        return {  # the id of CLS stands for nothing: `_pass` puts its embedding there
            "input_ids": F.pad(ids, (0, 1), value=self.pad_token_id),
            "attention_mask": F.pad(mask, (0, 1), value=1),
            "position_ids": F.pad(position_ids(mask) + 1, (0, 1), value=0),
        }

    @staticmethod
    def _pass(model: torch.nn.Module, batch: Mapping[str, Tensor], columns: int) -> tuple[Tensor, Tensor]:
        """Logits (B, columns, V) of the last columns but CLS, -inf where nobody sees them, and of stopping, (B, 2)."""
        inner, modules = auxiliary_modules.unwrap_model(model), auxiliary_modules.modules_of(model)
        seen_BS = batch["attention_mask"].bool()
        tokens = inner.get_input_embeddings()(batch["input_ids"][:, :-1])
        cls_B1D = modules["cls"].weight[None].expand(len(tokens), 1, -1)
        output = model(
            inputs_embeds=torch.cat([tokens, cls_B1D.to(tokens.dtype)], dim=1),
            attention_mask=additive(full(seen_BS), inner.dtype),
            position_ids=batch["position_ids"],
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=columns + 1,
        )
        unseen = ~seen_BS[:, -columns - 1 : -1, None]
        logits = at_least_float32(output.logits[:, :-1]).masked_fill(unseen, -torch.inf)
        return logits, at_least_float32(modules["stop"](last_states(model, output)[:, -1]))

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        logits_BSV, stop_B2 = self._pass(model, batch, batch["input_ids"].shape[1] - 1)
        ids_BT = batch["dropped_ids"]
        dropped_BT = ids_BT.ne(IGNORE)
        pairs = logits_BSV.flatten(1)
        right_BT = pairs.gather(1, batch["behind"] * logits_BSV.shape[-1] + ids_BT.clamp(min=0))
        nats_BT = (pairs.logsumexp(dim=1, keepdim=True) - right_BT).where(dropped_BT, 0)
        number_B = dropped_BT.sum(dim=1, dtype=nats_BT.dtype)
        inserted_B = nats_BT.sum(dim=1) / (number_B + 1e-9)  # the source's way to 0 for n = 0
        stopping = F.cross_entropy(stop_B2, batch["labels"][:, -1], reduction="sum")
        return weighed({"inserted": (1.0, inserted_B.sum()), "stop": (1.0, stopping)}, batch["labels"])

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        nothing_BT = prefix[0].new_full((len(lengths_B), int(lengths_B.max())), IGNORE)
        return self.complete(model, prefix, nothing_BT, lengths_B)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        columns_T = torch.arange(shown_BT.shape[1], device=shown_BT.device)
        lengths_B = shown_BT.ne(IGNORE).sum(dim=1)
        found = []
        for given in range(shown_BT.shape[1]):
            earlier_BT = shown_BT.where(columns_T < given, IGNORE)
            found.append(self.complete(model, prefix, earlier_BT, lengths_B, given)[:, given])
        return torch.stack(found, dim=1)

    def complete(
        self, model: PreTrainedModel, prefix: Prefix, ids_BT: Tensor, lengths_B: Tensor, given: int = 0
    ) -> Tensor:
        """Insert tokens until the head stops a row, or it has its length; -100 in `ids_BT` where nothing stands yet.

        The first `given` tokens stay the first.
        """
        columns_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        open_B = torch.ones_like(lengths_B, dtype=torch.bool)
        for _ in range(given, ids_BT.shape[1]):
            logits_BCV, stop_B2 = self._pass(model, self._inputs(prefix, ids_BT), ids_BT.shape[1] + 1)
            stops_B = stop_B2.softmax(dim=1)[:, STOP] >= self.threshold
            open_B = open_B & ~stops_B & (ids_BT.ne(IGNORE).sum(dim=1) < lengths_B)
            places_B, tokens_B = self._best(logits_BCV[:, given:])
            place_B1 = given + places_B[:, None]  # behind column 0, which is the prompt's last, is the target's place 0
            longer_BT = ids_BT.where(columns_T < place_B1, ids_BT.roll(1, dims=1))
            longer_BT = tokens_B[:, None].where(columns_T == place_B1, longer_BT)
            ids_BT = longer_BT.where(open_B[:, None], ids_BT)
        return ids_BT

    def _best(self, logits_BCV: Tensor) -> tuple[Tensor, Tensor]:
        """The column behind which a token goes, (B,), and the token."""
        special = torch.tensor(self.special_ids, dtype=torch.long, device=logits_BCV.device)
        logits_BCV = logits_BCV.index_fill(2, special, -torch.inf)
        best_BC, tokens_BC = logits_BCV.max(dim=2)
        scores_BC = logits_BCV.logsumexp(dim=2) if self.choice == "column" else best_BC
        columns_B = scores_BC.argmax(dim=1)
        return columns_B, tokens_BC.gather(1, columns_B[:, None])[:, 0]
