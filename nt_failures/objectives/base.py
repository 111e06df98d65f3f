"""The base class of all objectives: how (prefix, target) is shown to a model, trained, and read back.

Shapes: B rows, P prefix columns (padded on the left), T target columns (padded on the right), V vocabulary.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nt_failures import registry
from nt_failures.data.batches import Example, layout, predicting, reverse_rows
from nt_failures.data.tokenizer import token_id
from nt_failures.models.load import check_length
from nt_failures.objectives.decoding import Prefix, insert_tokens, one_pass, parallel, token_by_token
from nt_failures.objectives.losses import Batch, Loss, cross_entropy, label_count
from nt_failures.objectives.options import check_option, option
from nt_failures.registry import check_choice

_END_TOKENS = ("\u0120.", "\u2581.", ".")
"""How tokenizers write ` .`: byte-level ones, SentencePiece, word-level ones."""


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """Base of all objectives: `attach`, `collate`, `loss`, `decode` (by `predict` and `predict_forced`).

    Args:
        order: `"forward"`, or `"reversed"` to train on the target from its last token to its first. Predictions always
            come back in the task's own order.
        dummy_token_id: stands in for hidden target tokens; None where the objective hides none.
        pad_token_id: fills rows up; it is masked everywhere.
        end_token_id: of `.`, which ends answers that differ in length: in reversed order, too, it comes last. None
            where the tokenizer knows no such token.

    Raises:
        ValueError: an option out of range, or a tokenizer without a token that the objective needs.

    Example:
        >>> from nt_failures.objectives import NextToken
        >>> objective = NextToken(order="reversed")
        >>> batch = objective.collate([{"prefix_ids": [3, 11], "target_ids": [3, 4, 5], "target_positions": [1, 2, 3]}])
        >>> batch["input_ids"].tolist(), batch["labels"].tolist()  # (B, P + T) each
        ([[3, 11, 5, 4, 3]], [[-100, -100, 5, 4, 3]])
    """

    order: str = option("forward", choices=("forward", "reversed"))
    dummy_token_id: int | None = option(None, whole=True)
    pad_token_id: int = option(0, whole=True)
    end_token_id: int | None = option(None, whole=True)

    VERSION: ClassVar[int] = 1
    """of the definition; models trained under another one are refused"""
    extra_tokens: ClassVar[Mapping[str, str]] = {}
    """tokens the tokenizer must know, and the option that holds the id of each"""
    extra_positions: ClassVar[int] = 0
    """positions that a row takes beyond those of its tokens"""
    needs: ClassVar[frozenset[str]] = frozenset()
    """what the model must offer, of `capabilities.CAPABILITIES`"""
    decodings: ClassVar[tuple[str, ...]] = ("autoregressive",)
    """ways of decoding that it trains for: "autoregressive", "parallel", or one of its own; `decode` takes the first"""
    inserted_tokens: ClassVar[int] = 0
    """how many tokens of its own it puts between prompt and answer, for which the model needs positions"""
    citation: ClassVar[str] = ""

    def __post_init__(self) -> None:
        registry.check_decorated(type(self))
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):  # as JSON has a tuple
                object.__setattr__(self, field.name, tuple(value))
            check_option(field, getattr(self, field.name))
        for token, name in self.extra_tokens.items():
            if getattr(self, name) is None:
                uses = f"{type(self).__name__} uses the token {token!r}"
                raise ValueError(f"{uses} and was given no {name}; build it with .from_tokenizer(tokenizer).")

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, **options: Any) -> "Objective":
        """Build the objective for a tokenizer, which must know `extra_tokens` (see `nt_failures.add_tokens`).

        ValueError where the tokenizer lacks a token, or an option is unknown or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        registry.check_names(f"{cls.__name__} has no option", options, known)
        tokens = {"pad_token_id": tokenizer.pad_token_id or 0}
        tokens["end_token_id"] = end_of(tokenizer)
        if "vocabulary" in known:  # of objectives that draw tokens, or leave out what the tokenizer does not know
            tokens["vocabulary"] = len(tokenizer)
        tokens |= {name: token_id(tokenizer, token) for token, name in cls.extra_tokens.items()}
        return cls(**{**tokens, **options})

    def to_dict(self) -> dict[str, Any]:
        """Name, version behind the first, and options, JSON-ready; `objectives.read_objective` is the inverse."""
        version = {} if self.VERSION == 1 else {"version": self.VERSION}
        return {"objective": registry.name_of(type(self)), **version, **dataclasses.asdict(self)}

    @property
    def trained_positions(self) -> tuple[int, ...] | None:
        """Positions of the answer, from 1, that the loss covers; None for all."""
        return None

    @property
    def autoregressive(self) -> bool:
        """Whether `decode` predicts token by token, each from the true or predicted earlier ones."""
        return self.judged_decoding == "forced"

    @property
    def judged_decoding(self) -> str:
        """Predictions by which the positions of an answer are judged: "forced" (earlier tokens revealed) or "free"."""
        return "forced" if self.decodings[0] == "autoregressive" else "free"

    @property
    def stock(self) -> bool:
        """Whether stock `generate`, without this package, decodes the model as trained."""
        return self.autoregressive

    def added_columns(self, length: int) -> int:
        """Columns that training may add to a row whose target has `length` tokens."""
        return self.inserted_tokens + self.extra_positions

    def attach(self, model: PreTrainedModel) -> None:  # noqa: B027 - most objectives have no modules of their own
        """Add the objective's own modules into the model, so that they are saved, moved and optimised with it."""

    def prepare(self, model: PreTrainedModel) -> None:  # noqa: B027 - most objectives start from new modules
        """Fill what `attach` added from elsewhere; called by `ObjectiveTrainer` alone: a saved model has all of it."""

    @abc.abstractmethod
    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A batch of rows of `tokenize`; the only place where labels and -100 are made.

        Returns `input_ids`, `attention_mask`, `labels`, each (B, P + T), labels not shifted, as causal LMs take them;
        and `position_ids` when a prefix is padded.
        """

    def loss(self, model: torch.nn.Module, batch: Batch) -> Loss:
        """Cross-entropy of the labelled tokens of a collated batch, in nats."""
        logits_BTV, labels_BT = target_logits(model, batch)
        return Loss(cross_entropy(logits_BTV, labels_BT), label_count(labels_BT), {})

    @torch.no_grad()
    def decode(
        self,
        model: PreTrainedModel,
        prefix_ids: Tensor,
        length: int | Tensor,
        prefix_mask: Tensor | None = None,
        decoding: str | None = None,
        shown: Tensor | None = None,
        given: int | Tensor = 0,
    ) -> Tensor:
        """Predict targets greedily: (B, T) ids in the task's own order, -100 behind each row's length.

        ValueError for another decoding, a length below 1, or more tokens than the model has positions for.

        Args:
            model: the model, not wrapped for data parallelism.
            prefix_ids: (B, P), padded on the left.
            length: tokens to predict, one number or (B,).
            prefix_mask: (B, P), 0 on padding; all ones if not given.
            decoding: one of `decodings`; the first if not given.
            shown: (B, T) targets in the objective's order, -100 behind each row's length: each token is predicted with
                the earlier ones revealed (forced predictions). Without it nothing of a target is seen.
            given: how many of a prefix's last tokens begin the answer already, one number or (B,).
        """
        decoding = decoding or self.decodings[0]
        check_choice("decoding", decoding, self.decodings)
        lengths_B = torch.as_tensor(length, device=prefix_ids.device).expand(len(prefix_ids))
        if not bool((lengths_B >= 1).all()):
            raise ValueError(f"length={length} must be at least 1 token for every row.")
        mask = torch.ones_like(prefix_ids) if prefix_mask is None else prefix_mask
        prefix = insert_tokens((prefix_ids, mask), self.inserted_tokens, given)
        check_length(model, int((prefix[1].sum(dim=1) + lengths_B).max()) + self.extra_positions)
        if shown is None:
            return self.reorder(self.predict(model, prefix, lengths_B, decoding))
        return self.reorder(self.predict_forced(model, prefix, shown), shown)

    def predict(self, model: PreTrainedModel, prefix: Prefix, lengths_B: Tensor, decoding: str) -> Tensor:
        """Targets (B, T) from prefixes alone, in the objective's order, -100 behind each row's length."""
        if decoding == "parallel":
            return parallel(model, *prefix, lengths_B, self.dummy_token_id)
        return token_by_token(model, *prefix, lengths_B, self.pad_token_id)

    def predict_forced(self, model: PreTrainedModel, prefix: Prefix, shown_BT: Tensor) -> Tensor:
        """Each token of `shown_BT` predicted from the prefix and the earlier ones; same form as `predict`."""
        return one_pass(model, *prefix, shown_BT)

    def reorder(self, ids_BT: Tensor, target_BT: Tensor | None = None) -> Tensor:
        """Target ids between the task's order and the objective's; its own inverse.

        With `target_BT` (B, T) anything that belongs to these ids, such as the positions of their tokens.
        """
        if self.order == "forward":
            return ids_BT
        return reverse_rows(ids_BT, ids_BT if target_BT is None else target_BT, self.end_token_id)

    def layout(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """`layout` of the examples in this objective's order."""
        return layout(examples, self.pad_token_id, self.order == "reversed", self.end_token_id)


def end_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of `.`, which ends answers that differ in length."""
    vocabulary = tokenizer.get_vocab()
    return next((vocabulary[token] for token in _END_TOKENS if token in vocabulary), None)


def target_logits(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (B, T, V) of the labelled columns only, and their labels (B, T).

    Example:
        >>> import nt_failures as ntf
        >>> tokenizer = ntf.word_level_tokenizer(ntf.PathStar(degree=2, path_length=3, num_nodes=10))
        >>> row = {"prefix_ids": [3, 11], "target_ids": [3, 4, 5], "target_positions": [1, 2, 3]}
        >>> model, objective = ntf.load_model("gpt2-1x16", tokenizer, 32), ntf.NextToken.from_tokenizer(tokenizer)
        >>> [*map(tuple, (part.shape for part in target_logits(model, objective.collate([row]))))]
        [(1, 3, 15), (1, 3)]
    """
    # At GPT-2's vocabulary the unembedding is most of the cost of a short answer.
    inputs, first = predicting(batch)
    labels_BT = batch["labels"][:, first:]
    return model(**inputs, use_cache=False, logits_to_keep=labels_BT.shape[1]).logits, labels_BT
