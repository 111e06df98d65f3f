"""Future summary: beside the next token, predict the state of a right-to-left model that has read what comes later."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import auxiliary_modules
from nt_failures.objectives.extra_loss import ExtraLoss, Terms
from nt_failures.objectives.losses import Batch, ForwardPass, VocabularyHead, row_mean_sum, squared_error, token_nats
from nt_failures.objectives.options import option

# Shapes beyond base.py's: S columns of a row, D hidden size. State c of the right-to-left model has read c + 1 tokens.


class RightToLeft(nn.Module):
    """A causal LM of the model's kind and size that reads rows backwards; it shares no weight with the model."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        width, tokens = model.config.hidden_size, model.config.vocab_size
        self.embedding = nn.Embedding(tokens, width)
        self.trunk = auxiliary_modules.encoder_like(model, layers=model.config.num_hidden_layers)
        self.unembedding = VocabularyHead(width, tokens, bias=False)

    def forward(self, backwards_BS: Tensor) -> Tensor:
        """Last hidden states (B, S, D) of these ids, behind whose end nothing matters."""
        embedded_BSD = self.embedding(backwards_BS.clamp(min=0))
        states_BSD = self.trunk(inputs_embeds=embedded_BSD, use_cache=False).last_hidden_state
        return states_BSD.to(self.embedding.weight.dtype)


@dataclasses.dataclass(frozen=True)
class FutureSummary(ExtraLoss):
    """Predict the next token, and beside it how a right-to-left model g summarises the tokens behind that one.

    For the target `32 34 6 16 12` (inputs and labels are those of `next_token`):

        input_ids   ...   12    =     32          34         6      16      12
        labels      ... -100 -100     32          34         6      16      12
        h_t has read             .. 12 =       .. 32     .. 34    .. 6   .. 16
        g has read            12 16 6 34     12 16 6     12 16      12       -

    loss = CE_next + weight * mean over the states of |A h_t - stopgrad g(r_T .. r_t+2)|^2 / D, A a linear layer, g(..)
    the last hidden state of g (FSP-RevLM, arXiv 2510.14751). The state that predicts the last token has no summary. g
    is of the model's kind and size, with embeddings of its own, and learns by - log g(x_c | x_c+1 ..) over the whole
    row, read from its last token to its first: the answer, then the prompt. So what the model is to match has seen the
    answer's tokens alone.

    **Ours: g is trained beside the model, by its own loss alone, for the same steps.** A step costs about twice that of
    `next_token`. The source trains g first, for as many steps, and freezes it. For that, train once and give the run's
    folder as `teacher` to a second one, whose FLOPs leave the first one's out:

        python examples/train.py --objective future_summary --output_dir outputs/first
        python examples/train.py --objective future_summary --objective_options '{"teacher": "outputs/first"}'

    By the paper's description, second-hand: no code is known to us. Not known: A's form (a linear one is ours), whether
    states of the prompt count (here only those that predict the answer), what g reads on path-star graphs, and whether
    the mean over channels, ours, is theirs: the formula sums them, which `weight` = D does. On G(2,4) with D = 128 that
    sum was 148 beside 3.3 nats over the first 50 steps, and after 200 the next token stood at 2.55 nats, with the mean
    at 0.87 (one seed).
    Where gradients are clipped, g and the model have a common norm. Rows weigh by their length, so that a batch may be
    cut anywhere; for rows of one length that is the mean over the batch's states.
    Relations: `future_bag` has the tokens themselves as a set; `belief_state` reads both ends to predict; decoding is
    the stock model's. Needs: nothing.

    Args:
        weight: of the summary's loss; none in the paper's formula.
        teacher: folder of an earlier run of this objective, in the same order and with a model of the same size, whose
            g is taken over, frozen. It is saved with this run's model, too. None trains g here.

    Example:
        >>> from nt_failures import FutureSummary
        >>> FutureSummary().collate([{"prefix_ids": [1, 2], "target_ids": [7, 8, 9]}])["labels"].tolist()
        [[-100, -100, 7, 8, 9]]
    """

    weight: float = option(1.0)
    teacher: str | None = None

    citation = "Mahajan et al., Beyond Multi-Token Prediction: Pretraining LLMs with Future Summaries, arXiv 2510.14751"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.teacher is None or (isinstance(self.teacher, str) and self.teacher)):
            raise ValueError(
                f"teacher={self.teacher!r} must be the folder of an earlier run of future_summary, or None."
            )

    def attach(self, model: PreTrainedModel) -> None:
        width = model.config.hidden_size
        auxiliary_modules.attach(model, summary=nn.Linear(width, width), reverse=RightToLeft(model))

    def prepare(self, model: PreTrainedModel) -> None:
        if self.teacher is not None:
            auxiliary_modules.load(model, self._teacher_file(), only="reverse")
            auxiliary_modules.modules_of(model)["reverse"].requires_grad_(False)

    def _teacher_file(self) -> Path:
        """The teacher's modules; ValueError for a folder that is missing, or of another objective's run."""
        folder, wanted = Path(self.teacher), "give the folder of a finished run of future_summary"
        if not folder.is_dir():
            raise ValueError(f"teacher: there is no folder {self.teacher!r}; {wanted}.")
        file = folder / auxiliary_modules.MODULES_FILE
        if not (file.exists() and any(name.startswith("reverse.") for name in load_file(file))):
            raise ValueError(f"teacher: {self.teacher!r} holds no right-to-left model; {wanted}.")
        order = json.loads((folder / "nt_failures.json").read_text(encoding="utf-8"))["objective"]["order"]
        if order != self.order:
            raise ValueError(f"teacher: {self.teacher!r} has read answers in {order} order; {wanted} with that order.")
        return file

    def extra_losses(self, model: torch.nn.Module, output: ForwardPass, batch: Batch) -> Terms:
        modules, labels_BT = auxiliary_modules.modules_of(model), output.labels_BT
        backwards_BS = right_to_left(batch)
        # A frozen g need not read the prompt, which comes behind the answer.
        read = labels_BT.shape[1] if self.teacher is not None else backwards_BS.shape[1] - 1
        states_BSD = modules["reverse"](backwards_BS[:, :read])
        found_BTD = modules["summary"](output.label_states_BTD)
        terms = {"summary": (self.weight, summary_loss(found_BTD, states_BSD.detach(), labels_BT))}
        if self.teacher is None:
            logits_BSV, wanted_BS = modules["reverse"].unembedding(states_BSD), backwards_BS[:, 1:]
            nats_BS = token_nats(logits_BSV, wanted_BS)
            terms["reverse"] = (1.0, row_mean_sum(nats_BS, wanted_BS.ne(IGNORE), labels_BT))
        return terms


def right_to_left(batch: Batch) -> Tensor:
    """The ids (B, S) of each row from its last token to its first, -100 behind them."""
    real_BS = batch["attention_mask"].bool()
    numbers_BS = real_BS.cumsum(dim=1).where(real_BS, 0)
    ids_BS = batch["input_ids"].where(real_BS, IGNORE)
    return ids_BS.gather(1, numbers_BS.argsort(dim=1, descending=True))


def summary_loss(found_BTD: Tensor, states_BSD: Tensor, labels_BT: Tensor) -> Tensor:
    """Sum over rows of its number of labels times the mean of its squared distances, each a mean over channels.

    State t of a target of n tokens is compared with the one that has read its last n - 1 - t.
    """
    lengths_B1 = labels_BT.ne(IGNORE).sum(dim=1, keepdim=True)
    behind_BT = lengths_B1 - 2 - torch.arange(labels_BT.shape[1], device=labels_BT.device)
    index_BTD = behind_BT.clamp(min=0)[:, :, None].expand(-1, -1, states_BSD.shape[-1])
    squared_BT = squared_error(found_BTD, states_BSD.gather(1, index_BTD))
    return row_mean_sum(squared_BT, behind_BT >= 0, labels_BT)
