"""Masked diffusion: hidden target tokens are predicted from all others, and decoded in passes that hide the unsure.

Shapes: B rows, T target columns, N passes.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE, Example
from nt_failures.objectives.decoding import Prefix, answer_columns
from nt_failures.objectives.losses import Batch, Loss, label_count
from nt_failures.objectives.options import option
from nt_failures.objectives.two_sided import TwoSided


@dataclasses.dataclass(frozen=True)
class MaskedDiffusion(TwoSided):
    """Hide target tokens at the rate of a drawn time and predict them from all that is shown, one column earlier.

    The target `32 34 6 16 12` at time t = 7 of 20, so a rate of 8/20, attention in both directions:

        input_ids   ...   12    =   32    $    6   16    $
        labels      ... -100 -100 -100   34 -100 -100   12     (the model shifts: column c predicts label c + 1)

    loss = w(t) * alpha * (1 - p)^gamma * (- log p) with p = p(r_i | x, the tokens not hidden), summed over the hidden
    tokens and divided by their number; the gradient flows through (1 - p)^gamma, too; t is uniform in 0 .. steps - 1
    for each row, and w(t) = steps - t (arXiv 2410.14157, section 3). Equal to the authors' code (golden). Labels are
    the hidden tokens alone, so under gradient accumulation the mean is over all of them. A batch in which nothing is
    hidden is drawn again; the authors' loss is NaN there.
    Decoding, t = steps - 1 .. 0: from all dummies, each pass predicts every target token anew and hides those it is
    least sure of again, floor(T * t / steps) of them; equal to the authors' code token for token (golden). Noise is
    drawn from a generator seeded by the prompt, so the same model and prompt give the same answer. `parallel` is one
    pass, t = 0.
    The defaults are those of the authors' path recipe, their nearest task; their arguments' own are 64 steps, gamma 2,
    "original", and no alpha and gamma. Their rows end with EOS and padding, which can be hidden and are predicted; here
    rows end with the answer, whose length is given to the decoder.
    Relations: `uniform_mask` predicts in the own column with weight T / k; `masked_teacher` stays causal. Needs: a 4-D
    mask, attention in both directions.

    Args:
        steps: times in training, passes in decoding.
        alpha, gamma: of the weight of hard tokens; 1 and 0 weigh all alike.
        time_weight: w(t): "linear" is steps - t, "original" 1 / (t + 1), "none" 1.
        unmasking: how many tokens a pass hides again: "linear", or "cosine": floor(T * cos(pi / 2 * (steps - t) /
            steps)); or "random", where each hidden token is filled with chance 1 / (t + 1) and then stays.
        noise: times the share hidden again times Gumbel noise is added to the log-probabilities that are ranked; 0 for
            none. "random" takes none.
        vocabulary: ids from here on are not decoded; `from_tokenizer` gives the tokenizer's size. None for all.

    Example:
        >>> from nt_failures import MaskedDiffusion
        >>> rows = [{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}]
        >>> batch = MaskedDiffusion(steps=1, dummy_token_id=13).collate(rows)
        >>> batch["input_ids"].tolist(), batch["labels"].tolist(), batch["times"].tolist()
        ([[1, 2, 13, 13, 13]], [[-100, -100, 7, 8, 9]], [0])
    """

    steps: int = option(20, least=1, whole=True)
    alpha: float = option(0.25, above=True)
    gamma: float = option(1.0)
    time_weight: str = option("linear", choices=("linear", "original", "none"))
    unmasking: str = option("linear", choices=("linear", "cosine", "random"))
    noise: float = option(0.5)
    vocabulary: int | None = option(None, least=1, whole=True)

    VERSION: ClassVar[int] = 2
    shift = 1
    decodings = ("unmasking", "parallel")
    citation = (
        "Ye et al., Beyond Autoregression: Discrete Diffusion for Complex Reasoning and Planning, ICLR 2025, "
        "arXiv 2410.14157"
    )

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        parts = self.layout(examples)
        target_BT = parts["target_ids"]
        hidden_BT = torch.zeros(target_BT.shape, dtype=torch.bool)
        while not hidden_BT.any():
            times_B = torch.randint(self.steps, (len(target_BT),))
            rates_B1 = (times_B[:, None] + 1) / self.steps
            hidden_BT = (torch.rand(target_BT.shape) < rates_B1) & target_BT.ne(IGNORE)
        return self.hidden_batch(parts, hidden_BT, target_BT.where(hidden_BT, IGNORE)) | {"times": times_B}

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        nats_BT, labels_BT = self.target_nats(model, batch)
        # Below the smallest number the power's gradient is infinite for gamma < 1, where the loss and its own are 0.
        wrong_BT = -torch.expm1(-nats_BT).clamp(max=-torch.finfo(nats_BT.dtype).tiny)
        weights_B = self._weights(batch["times"].to(nats_BT.dtype))
        hard_BT = self.alpha * wrong_BT**self.gamma
        return Loss((weights_B * (hard_BT * nats_BT).sum(dim=1)).sum(), label_count(labels_BT), {})

    def _weights(self, times_B: Tensor) -> Tensor:
        if self.time_weight == "linear":
            return self.steps - times_B
        return 1 / (times_B + 1) if self.time_weight == "original" else torch.ones_like(times_B)

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        real_BT = answer_columns(lengths_B)
        steps = 1 if decoding == "parallel" else self.steps
        drawn_NBT = uniform_numbers(prefix, steps, real_BT.shape[1])
        ids_BT = torch.full(real_BT.shape, self.dummy_token_id, device=lengths_B.device)
        for time in reversed(range(steps)):
            log_p_BTV = self.target_pass(model, prefix, ids_BT, real_BT).float().log_softmax(dim=-1)
            sure_BT, best_BT = log_p_BTV[..., : self.vocabulary].max(dim=-1)
            if self.unmasking == "random":
                filled_BT = ids_BT.eq(self.dummy_token_id) & (drawn_NBT[time] < 1 / (time + 1))
                ids_BT = best_BT.where(filled_BT, ids_BT)
            else:
                again_BT = self._hidden_again(sure_BT, real_BT, time, steps, drawn_NBT[time])
                ids_BT = best_BT.masked_fill(again_BT, self.dummy_token_id)
        return ids_BT.where(real_BT, IGNORE)

    def _hidden_again(self, sure_BT: Tensor, real_BT: Tensor, time: int, steps: int, u_BT: Tensor) -> Tensor:
        """Which columns a pass hides again: those with the lowest scores, fewer where scores are tied."""
        rate = time / steps if self.unmasking == "linear" else math.cos((steps - time) / steps * math.pi / 2)
        if time == 0:
            return torch.zeros_like(real_BT)
        gumbel_BT = -(-(u_BT + 1e-8).log() + 1e-8).log()  # as the authors have it
        sure_BT = (sure_BT + self.noise * rate * gumbel_BT).where(real_BT, torch.inf)
        lengths_B = real_BT.sum(dim=1)
        fewest_B = torch.minimum((lengths_B * rate).long(), lengths_B - 1)
        limit_B1 = sure_BT.sort(dim=1).values.gather(1, fewest_B[:, None])
        return sure_BT < limit_B1


def uniform_numbers(prefix: Prefix, steps: int, columns: int) -> Tensor:
    """Uniform numbers (N, B, T) of each row, drawn from a generator that the row's prompt seeds."""
    rows = zip(prefix[0].tolist(), prefix[1].bool().tolist(), strict=True)
    seeds = [[token for token, real in zip(ids, mask, strict=True) if real] for ids, mask in rows]
    # Column by column, so that a row has the same numbers in a wider batch.
    drawn = [np.random.default_rng(seed).random((columns, steps), dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).permute(2, 0, 1).to(prefix[0].device)
