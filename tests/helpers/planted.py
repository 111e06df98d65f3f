"""Planted predictors: models whose failure is known, each a few lines of NumPy. For the tests of the diagnosis.

A predictor here answers position by position with a rule, `step`, that sees the prompt and the symbols before it, as a
causal LM does; so its forced, free and continued predictions belong together. `Table` has them written out by hand.
`byte_bpe` makes a tokenizer that this library did not.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nt_failures.evaluation.predictor import NotMeasured
from nt_failures.tasks.path_star import PathStar


class Planted:
    """Base: decoding by `step`. Subclasses say what stands at a position, given the symbols generated before it."""

    autoregressive = True
    order = "forward"
    trained_positions: tuple[int, ...] | None = None

    def __init__(self, task: PathStar, seed: int = 0):
        self.task, self.seed = task, seed

    def step(self, columns: Mapping[str, np.ndarray], shown: np.ndarray, k: int) -> np.ndarray:
        """(n,) symbols at position k; of `shown` (n, L), only what is generated before k may be looked at."""
        raise NotImplementedError

    @property
    def positions(self) -> list[int]:
        """1..L in the order of generation."""
        forward = list(range(1, self.task.path_length + 1))
        return forward if self.order == "forward" else forward[::-1]

    def forced(self, columns, answers):
        found = np.full(answers.shape, -1, dtype=np.int64)
        for k in self.positions:
            found[:, k - 1] = self.step(columns, answers, k)
        return found

    def free(self, columns):
        return self.continued(columns, np.full((len(columns["path"]), self.task.path_length), -1), 0)

    def continued(self, columns, answers, symbols):
        found = np.array(answers, dtype=np.int64)
        for k in self.positions[symbols:]:
            found[:, k - 1] = self.step(columns, found, k)
        return found

    # ------------------------------------------------------------ what the rules are made of

    def random(self, columns, k: int) -> np.ndarray:
        """Uniform numbers in 0..1, one per row, the same whenever the same rows are asked about position k."""
        return np.random.default_rng([self.seed, k]).random(len(columns["path"]))

    def labels(self, columns, k: int) -> np.ndarray:
        return (self.random(columns, k) * self.task.num_nodes).astype(np.int64)

    def next_node(self, columns, nodes: np.ndarray, backwards: bool = False) -> np.ndarray:
        """Along an edge from each node, the first where there are several; -1 where there is none."""
        edges = np.asarray(columns["edges"])
        tails, heads = (edges[:, :, 1], edges[:, :, 0]) if backwards else (edges[:, :, 0], edges[:, :, 1])
        here = tails == nodes[:, None]
        found = heads[np.arange(len(nodes)), here.argmax(axis=1)].astype(np.int64)
        return np.where(here.any(axis=1), found, -1)

    def guess(self, columns) -> np.ndarray:
        """One of the source's children, each equally likely."""
        edges, source = np.asarray(columns["edges"]), np.asarray(columns["source"])
        children = edges[:, :, 1][edges[:, :, 0] == source[:, None]].reshape(len(source), self.task.degree)
        chosen = (self.random(columns, 2) * self.task.degree).astype(np.int64)
        return children[np.arange(len(source)), chosen].astype(np.int64)


class Planner(Planted):
    """Solves the task: right at the decision, else along the edges, and the goal at the end, as trained models do."""

    def step(self, columns, shown, k):
        if k == 1:
            return np.asarray(columns["source"], dtype=np.int64)
        if k == self.task.path_length:
            return np.asarray(columns["goal"], dtype=np.int64)
        return self.decide(columns) if k == 2 else self.next_node(columns, shown[:, k - 2])

    def decide(self, columns) -> np.ndarray:
        return np.asarray(columns["path"])[:, 1].astype(np.int64)


class CleverHans(Planner):
    """The paper's failure: the decision is guessed, everything else is a look-up."""

    def decide(self, columns):
        return self.guess(columns)


class LastPlace(CleverHans):
    """Reads the decision off the last edge shown, on paths of three nodes: where it leads to the goal, its arm is the
    right one; where it leads to another leaf, its arm is a wrong one; and else it guesses."""

    def decide(self, columns):
        edges, source, guess = np.asarray(columns["edges"]), columns["source"], self.guess(columns)
        arm, end = edges[:, -1].T
        other = [
            next(b for a, b in row if a == s and b != wrong) for row, s, wrong in zip(edges, source, arm, strict=True)
        ]
        guess = np.where((arm != source) & (guess == arm), other, guess)
        return np.where(end == columns["goal"], arm, guess).astype(np.int64)


class Memoriser(CleverHans):
    """Right on the instances it has seen, Clever Hans on all others."""

    def __init__(self, task, seen, seed=0):
        super().__init__(task, seed)
        self.seen = task.instance_hash(seen)

    def decide(self, columns):
        known = np.isin(self.task.instance_hash(columns), self.seen)
        return np.where(known, np.asarray(columns["path"])[:, 1], self.guess(columns))


class RoteMemoriser(Memoriser):
    """Knows the whole answer of the instances it has seen, and nothing about any other: not even the look-ups."""

    def step(self, columns, shown, k):
        known = np.isin(self.task.instance_hash(columns), self.seen)
        return np.where(known, np.asarray(columns["path"])[:, k - 1], self.labels(columns, k))


class Snowball(Planner):
    """Learnt everywhere, but every position is wrong with a chance of its own: `rate`, independently."""

    def __init__(self, task, rate: float | Sequence[float], seed=0):
        super().__init__(task, seed)
        self.rate = np.broadcast_to(rate, task.path_length)

    def step(self, columns, shown, k):
        right = super().step(columns, shown, k)
        return np.where(self.random(columns, 100 + k) < self.rate[k - 1], (right + 1) % self.task.num_nodes, right)


class Undertrained(Planted):
    """Some label, at every position."""

    def step(self, columns, shown, k):
        return self.labels(columns, k)


class Jumper(Planted):
    """Plans without looking at its own steps: put on a wrong arm, it writes the rest of the right path."""

    def step(self, columns, shown, k):
        return np.asarray(columns["path"])[:, k - 1].astype(np.int64)


class ReversedPlanner(Planted):
    """Writes the path from the goal back to the source, where every node is the only parent of the one before."""

    order = "reversed"

    def step(self, columns, shown, k):
        if k == self.task.path_length:
            return np.asarray(columns["goal"], dtype=np.int64)
        if k == 1:
            return np.asarray(columns["source"], dtype=np.int64)
        return self.next_node(columns, shown[:, k], backwards=True)


class ReversedGuesser(ReversedPlanner):
    """Reversed, and wrong at its decision in half of the instances, from where it goes on consistently."""

    def step(self, columns, shown, k):
        right = super().step(columns, shown, k)
        if k != self.task.path_length - 1:
            return right
        return np.where(self.random(columns, k) < 0.5, right, self.labels(columns, k))


class DecisionOnly(CleverHans):
    """Trained on the decision token alone: guesses there, and writes junk at all positions it was never trained on."""

    trained_positions = (2,)

    def step(self, columns, shown, k):
        return self.decide(columns) if k == 2 else self.labels(columns, k)


class DecisionOnlySolved(DecisionOnly):
    """The same, having found out how to plan."""

    def decide(self, columns):
        return np.asarray(columns["path"])[:, 1].astype(np.int64)


class Parallel(Planted):
    """Decodes all positions at once, with chance `right[k - 1]` of being right at position k; junk when forced."""

    autoregressive = False

    def __init__(self, task, right: Sequence[float], seed=0):
        super().__init__(task, seed)
        self.right = right

    def free(self, columns):
        path = np.asarray(columns["path"]).astype(np.int64)
        wrong = np.stack([self.random(columns, k) >= self.right[k - 1] for k in self.positions], axis=1)
        return np.where(wrong, (path + 1) % self.task.num_nodes, path)

    def forced(self, columns, answers):
        return np.full(answers.shape, -1, dtype=np.int64)

    def continued(self, columns, answers, symbols):
        raise ValueError("Parallel decodes all positions at once, nothing can be given first.")


class AnswersAlone:
    """What a predictor answers, and nothing else of it."""

    autoregressive, order, trained_positions = True, "forward", None

    def __init__(self, inner):
        self.free = inner.free

    def forced(self, columns, answers):
        raise NotMeasured("it is not shown.")

    def continued(self, columns, answers, symbols):
        raise NotMeasured("it is not shown.")


class Table:
    """Predictions written out by hand, and what it was asked.

    Args:
        forced, free, continued: (n, L) predictions; `astray` are those forced along the detours.
    """

    autoregressive = True
    trained_positions = None

    def __init__(self, forced=None, free=None, astray=None, continued=None, order: str = "forward"):
        self.tables = {"forced": forced, "free": free, "astray": astray, "continued": continued}
        self.order = order
        self.asked: list[tuple] = []

    def forced(self, columns, answers):
        way = "forced" if np.array_equal(answers, columns["path"]) else "astray"
        self.asked.append((way, np.asarray(answers).tolist()))
        return np.array(self.tables[way])

    def free(self, columns):
        self.asked.append(("free",))
        return np.array(self.tables["free"])

    def continued(self, columns, answers, symbols):
        self.asked.append(("continued", np.asarray(answers).tolist(), symbols))
        return np.array(self.tables["continued"])


def byte_bpe(task: PathStar, vocab_size: int, alphabet: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE as GPT-2's, trained on 300 lines of the task; numbers may take several tokens, commas one.

    Args:
        alphabet: the single characters it knows; default: all bytes.
    """
    text = task.render(task.sample(np.random.default_rng(7), 300))
    lines = [prompt + path for prompt, path in zip(text["prompt"].to_list(), text["completion"].to_list(), strict=True)]
    return byte_bpe_of(lines, vocab_size, alphabet)


def byte_bpe_of(texts, vocab_size, alphabet=None) -> PreTrainedTokenizerFast:
    """The same, trained on any text."""
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    known = pre_tokenizers.ByteLevel.alphabet() if alphabet is None else list(alphabet)
    inner.train_from_iterator(
        texts, tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=known, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner)
