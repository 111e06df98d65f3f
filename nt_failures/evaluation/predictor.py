"""A model as the diagnosis sees it: instances of a task in, predicted symbols of their answers out."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nt_failures.data.batches import IGNORE
from nt_failures.data.tokenizer import encode_rows
from nt_failures.evaluation.reading import forced_symbols, read_symbols, texts_of
from nt_failures.objectives import decoding
from nt_failures.objectives.base import Objective
from nt_failures.objectives.checks import check_ids
from nt_failures.tasks.base import Task

Columns = Mapping[str, np.ndarray]


class NotMeasured(ValueError):
    """A predictor cannot tell this; the message says why."""


class Predictor(Protocol):
    """Predictions as symbols of answers, (n, L) int64 in the task's own order; -1 for anything that is none.

    Of a task whose answers differ in length, or of a model that ends them itself, (n, L + 1): -1 where nothing stands,
    -2 for what is no symbol.
    """

    autoregressive: bool
    """whether the model is meant to decode token by token"""
    order: str
    """`"forward"` or `"reversed"`: the order of generation"""
    trained_positions: tuple[int, ...] | None
    """positions of the answer that were trained, None for all"""

    def forced(self, columns: Columns, answers: np.ndarray) -> np.ndarray:
        """Argmax at every position with the earlier symbols of `answers` (n, L) revealed; or `NotMeasured`."""

    def free(self, columns: Columns) -> np.ndarray:
        """The model's own decoding, from the prompts alone."""

    def continued(self, columns: Columns, answers: np.ndarray, symbols: int | np.ndarray) -> np.ndarray:
        """Token-by-token decoding after the first `symbols` of `answers`, in the order of generation, were given.

        `symbols` is one number, or (n,) where it differs from row to row. Or `NotMeasured`.
        """


class ModelPredictor:
    """A `Predictor` around a causal LM, its tokenizer and the objective it was trained under.

    Args:
        model: on its device; put into evaluation mode for each call and back.
        tokenizer: any fast tokenizer that the model was trained with.
        objective: says how prefixes and targets are shown and read back.
        task: reads the text.
        batch_size: instances per forward pass.

    Example:
        >>> import nt_failures as ntf
        >>> task = ntf.PathStar(degree=2, path_length=3, num_nodes=10)
        >>> tokenizer = ntf.word_level_tokenizer(task)
        >>> model = ntf.load_model("gpt2-1x16", tokenizer, max_length=32)
        >>> predictor = ModelPredictor(model, tokenizer, ntf.NextToken.from_tokenizer(tokenizer), task)
        >>> predictor.free(task.block(0, "test", 0, rows=200)).shape  # labels of the answers, -1 for what is none
        (200, 3)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        objective: Objective,
        task: Task,
        batch_size: int = 500,
    ):
        self.model, self.tokenizer, self.objective, self.task = model, tokenizer, objective, task
        self.batch_size = batch_size
        self.autoregressive = objective.autoregressive
        self.order = objective.order
        self.trained_positions = objective.trained_positions

    def longest(self, columns: Columns) -> int:
        """Positions of the longest instance: prompt and answer together, and what the objective adds to them."""
        batches = self._examples(columns, self.task.answers(columns))
        longest = max(len(row["prefix_ids"]) + len(row["target_ids"]) for rows in batches for row in rows)
        return longest + self.objective.inserted_tokens + self.objective.extra_positions

    def forced(self, columns: Columns, answers: np.ndarray) -> np.ndarray:
        found = []
        for batch in self._batches(columns, answers):
            ids_BT = self._decode(batch, shown=batch["target_ids"]).cpu().numpy()
            positions_BT = self.objective.reorder(batch["target_positions"], batch["target_ids"]).cpu().numpy()
            found.append(forced_symbols(self.task, self.tokenizer, ids_BT, positions_BT))
        return np.concatenate(found)

    def free(self, columns: Columns) -> np.ndarray:
        texts: list[str] = []
        for batch in self._batches(columns, self.task.answers(columns)):
            texts += texts_of(self.tokenizer, self._decode(batch))
        return read_symbols(self.task, texts, self.order)

    def continued(self, columns: Columns, answers: np.ndarray, symbols: int | np.ndarray) -> np.ndarray:
        if "autoregressive" not in self.objective.decodings:
            raise ValueError(
                f"{type(self.objective).__name__} decodes all positions at once, nothing can be given first."
            )
        texts: list[str] = []
        number = iter(np.broadcast_to(symbols, len(answers)).tolist())
        for examples in self._examples(columns, answers):
            split = [self._reveal(example, next(number)) for example in examples]
            given_B = torch.tensor([len(given) for given, _ in split])
            batch = self._batch([rest for _, rest in split])
            decoded = self._decode(batch, decoding="autoregressive", given=given_B)
            rows = [[i for i in row if i != IGNORE] for row in decoded.tolist()]
            whole = [self._joined(given, row) for (given, _), row in zip(split, rows, strict=True)]
            texts += self.tokenizer.batch_decode(whole)
        return read_symbols(self.task, texts, self.order)

    def candidates(self, columns: Columns, answers: np.ndarray, top: int = 5) -> list[list[list[tuple[str, float]]]]:
        """The likeliest tokens where each position begins, with the earlier symbols of `answers` (n, L) revealed.

        A model that decodes all positions at once sees dummies instead. ValueError for an objective whose predictions
        are not the stock model's own.

        Returns:
            n rows of L positions, in the task's own order, of up to `top` pairs (token's text, probability in 0..1).
        """
        if not self.objective.stock and self.objective.decodings[0] != "parallel":
            raise ValueError(
                f"{type(self.objective).__name__} does not predict with the stock model alone; ask `objective.decode`."
            )
        found = []
        for batch in self._batches(columns, answers):
            shown_BT = batch["target_ids"]
            if not self.autoregressive:
                shown_BT = shown_BT.where(shown_BT.eq(IGNORE), self.objective.dummy_token_id)
            logits_BTV = decoding.one_pass_logits(self.model, batch["prefix_ids"], batch["prefix_mask"], shown_BT)
            shares, ids = logits_BTV.float().softmax(dim=-1).topk(min(top, logits_BTV.shape[-1]))
            for row, positions in enumerate(batch["target_positions"].tolist()):
                starts = [positions.index(k) for k in range(1, max(positions) + 1)]
                pairs = [zip(ids[row, t].tolist(), shares[row, t].tolist(), strict=True) for t in starts]
                found.append([[(self.tokenizer.decode([i]), share) for i, share in pair] for pair in pairs])
        return found

    def _reveal(self, example: dict, symbols: int) -> tuple[list[int], dict]:
        """Move the first `symbols` of the target into the prefix: the moved ids in the task's order, and the rest."""
        step = -1 if self.order == "reversed" else 1
        end = self._end(example["target_ids"])
        ids, positions = (example[name][:end][::step] for name in ("target_ids", "target_positions"))
        given = [k for k in dict.fromkeys(positions) if k > 0][:symbols]
        cut = len(positions) - positions[::-1].index(given[-1]) if given else 0
        rest = {
            "prefix_ids": example["prefix_ids"] + ids[:cut],
            "target_ids": ids[cut:][::step] + example["target_ids"][end:],
            "target_positions": positions[cut:][::step] + example["target_positions"][end:],
        }
        return ids[:cut][::step], rest

    def _joined(self, given: list[int], decoded: list[int]) -> list[int]:
        """A whole answer in the task's order, from the symbols that were given and what came after them."""
        end = self._end(decoded)
        return decoded[:end] + given + decoded[end:] if self.order == "reversed" else given + decoded

    def _end(self, ids: list[int]) -> int:
        """Where the end symbols of an answer begin."""
        return ids.index(self.objective.end_token_id) if self.objective.end_token_id in ids else len(ids)

    def _examples(self, columns: Columns, answers: np.ndarray) -> Iterator[list[dict]]:
        was_training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(answers), self.batch_size):
                where = slice(start, start + self.batch_size)
                rows = {name: column[where] for name, column in columns.items()}
                texts = self.task.texts(self.task.with_answers(rows, answers[where]))
                encoded = encode_rows(self.tokenizer, texts["prompt"].to_list(), texts["completion"].to_list())
                yield [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
        finally:
            self.model.train(was_training)

    def _batches(self, columns: Columns, answers: np.ndarray) -> Iterator[dict[str, torch.Tensor]]:
        return map(self._batch, self._examples(columns, answers))

    def _batch(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        batch = self.objective.layout(examples)
        check_ids(self.model, max(int(batch[name].max()) for name in ("prefix_ids", "target_ids")))
        return {name: tensor.to(self.model.device) for name, tensor in batch.items()}

    def _decode(self, batch: dict[str, torch.Tensor], **how: Any) -> torch.Tensor:
        lengths_B = batch["target_ids"].ne(IGNORE).sum(dim=1)
        return self.objective.decode(self.model, batch["prefix_ids"], lengths_B, batch["prefix_mask"], **how)
