"""`insertion` against numbers made by running the code of dhruvdcoder/ILM (arXiv 2505.05755)."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import Insertion, auxiliary_modules

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "insertion.npz")
SPECIAL = tuple(GOLDEN["special_pad_mask_cls_bos_eos"].tolist())
TARGETS = {"column": "final_targets", "pair": "final_targets_joint"}


def tensor(name):
    values = torch.from_numpy(GOLDEN[name])
    return values if values.is_floating_point() else values.long()


class Stored(nn.Module):
    """A model with passes of stored logits (B, S, V), and with states (B, S, 2) that the stop head returns as they are.

    It notes what it was given. The embedding of token i is (i, 0), that of CLS (-1, 0).
    """

    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, passes):
        super().__init__()
        self.passes, self.given = passes, []
        self.config = SimpleNamespace(hidden_size=2, max_position_embeddings=64)
        vocabulary = int(GOLDEN["vocabulary"])
        self.embeddings = nn.Embedding(vocabulary, 2, dtype=self.dtype)
        self.embeddings.weight.data = torch.stack([torch.arange(vocabulary), torch.zeros(vocabulary)], dim=1).double()
        Insertion().attach(self)
        modules = auxiliary_modules.modules_of(self)
        modules["cls"].weight.data = torch.tensor([[-1.0, 0.0]], dtype=self.dtype)
        nn.init.zeros_(modules["stop"].down.weight)
        nn.init.zeros_(modules["stop"].down.bias)
        nn.init.eye_(modules["stop"].classes.weight)

    def _init_weights(self, module):
        """As it is."""

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, inputs_embeds, attention_mask, position_ids, logits_to_keep, **kwargs):
        seen_BS = attention_mask[:, 0].eq(0)
        assert bool(seen_BS.eq(seen_BS[:, :1]).all())  # all columns of a row see the same
        self.given.append((inputs_embeds[..., 0].long(), seen_BS[:, 0], position_ids))
        logits, states = self.passes(*self.given[-1])
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], hidden_states=(states,))


def in_places(ids, seen, positions):
    """Of each row the tokens that are seen, in the order of their positions."""
    rows = []
    for row in range(len(ids)):
        found = sorted(zip(positions[row][seen[row]].tolist(), ids[row][seen[row]].tolist(), strict=True))
        assert [place for place, _ in found] == list(range(len(found)))
        rows.append([token for _, token in found])
    return rows


# Of rows of several lengths; prompts with CLS, which is our last column.
LENGTHS = list(zip(GOLDEN["loss/prompt_lengths"].tolist(), GOLDEN["loss/target_lengths"].tolist(), strict=True))
PREFIX = max(prompt for prompt, _ in LENGTHS) - 1  # columns; CLS is none of them
WIDTH = PREFIX + max(target for _, target in LENGTHS) + 1


def to_ours(name, fill):
    """A golden array (B, S, ...) with each row's columns where our layout has them, and `fill` elsewhere."""
    theirs = tensor(f"loss/{name}")
    ours = torch.full((len(LENGTHS), WIDTH, *theirs.shape[2:]), fill, dtype=theirs.dtype)
    for row, (prompt, target) in enumerate(LENGTHS):
        ours[row, -1] = theirs[row, 0]
        ours[row, PREFIX + 1 - prompt : PREFIX + target] = theirs[row, 1 : prompt + target]
    return ours


@pytest.fixture
def batch(monkeypatch):
    """The golden's rows, collated with its draws."""
    ids, dropped = tensor("loss/ids"), to_ours("dropped", 0)[:, PREFIX:-1]
    rows = [
        {"prefix_ids": ids[row, 1:prompt].tolist(), "target_ids": ids[row, prompt : prompt + target].tolist()}
        for row, (prompt, target) in enumerate(LENGTHS)
    ]
    chances = torch.tensor([target + 1 for _, target in LENGTHS])
    numbers = ((dropped.sum(dim=1) + 0.5) / chances)[:, None]  # so that n is the golden's
    monkeypatch.setattr(torch, "rand", lambda *shape: numbers if shape == (len(rows), 1) else 0.9 - 0.5 * dropped)
    return Insertion(special_ids=SPECIAL).collate(rows)


def test_layout(batch):
    """Catches: dropped tokens that are seen or take a position, prompt tokens dropped, CLS without the first position,
    a token that is to go behind one that was dropped, at most one token for a column."""
    assert torch.equal(batch["attention_mask"], to_ours("attended", 0))
    columns = to_ours("ids", -1).ge(0)
    assert torch.equal(batch["position_ids"][columns], to_ours("positions", 0)[columns])
    seen = batch["attention_mask"].bool()
    seen[:, -1] = False  # CLS has no id here
    assert torch.equal(batch["input_ids"][seen], to_ours("input_ids", 0)[seen])
    counts = torch.zeros_like(to_ours("counts", 0))
    for row, column in batch["dropped_ids"].ne(IGNORE).nonzero().tolist():
        counts[row, batch["behind"][row, column], batch["dropped_ids"][row, column]] += 1
    assert torch.equal(counts, to_ours("counts", 0))
    assert (batch["labels"][:, :-1] == IGNORE).all()
    assert batch["labels"][:, -1].tolist() == [1, 1, 0, 1]


def test_loss_gradients_and_who_sees_whom(batch):
    """Catches: a softmax in each column, one without the prompt or with CLS, a sum over the dropped tokens in place of
    their mean, classes the other way round, a row that weighs by its length."""
    logits = to_ours("logits", 7.0).requires_grad_()
    states = torch.randn(len(LENGTHS), WIDTH, 2, dtype=torch.float64)
    states[:, -1] = tensor("loss/stop_logits")
    states.requires_grad_()
    model = Stored(lambda *given: (logits, states))
    loss = Insertion(special_ids=SPECIAL).loss(model, batch)
    exact = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(loss.parts["inserted"].detach(), tensor("loss/ce_per_row").sum(), **exact)
    torch.testing.assert_close(loss.parts["stop"].detach(), tensor("loss/stop_per_row").sum(), **exact)
    mean = loss.sum / loss.count
    mean.backward()
    torch.testing.assert_close(mean.detach(), tensor("loss/total"), **exact)
    torch.testing.assert_close(logits.grad, to_ours("grad_logits", 0.0), **exact)
    torch.testing.assert_close(states.grad[:, -1], tensor("loss/grad_stop_logits"), **exact)
    assert not states.grad[:, :-1].any()
    ids, seen, positions = model.given[0]
    assert torch.equal(seen, to_ours("attended", 0).bool())
    kept = zip(tensor("loss/ids"), tensor("loss/attended").bool(), strict=True)
    assert in_places(ids, seen, positions) == [[-1, *row[mask][1:].tolist()] for row, mask in kept]


class Passes:
    """The golden's passes, whose columns are in the order of insertion and ours in the row's; it checks what is shown.

    `order` says of each row which insertion each of its tokens came by, `chosen` the columns of the last pass.
    """

    def __init__(self, shown):
        self.prompt, self.shown, self.count = tensor("decode/prompt_ids"), shown, 0
        self.order, self.chosen = [[] for _ in self.prompt], None

    def __call__(self, ids, seen, positions):
        rows = in_places(ids, seen, positions)
        logits = torch.full((*ids.shape, int(GOLDEN["vocabulary"])), 7.0, dtype=torch.float64)
        states = torch.zeros(*ids.shape, 2, dtype=torch.float64)
        states[:, -1] = tensor("decode/stop_logits")[self.count]
        width = self.prompt.shape[1]
        for row, order in enumerate(self.order):
            if len(rows[row]) > width + len(order):
                order.insert(int(self.chosen[row]), self.count - 1)
            columns = [*range(1, width), *(width + i for i in order)]
            logits[row, : len(columns)] = tensor(f"decode/pass{self.count}/logits")[row, columns]
            if self.shown:
                self.check(row, rows[row], [0, *columns])
        self.count += 1
        return logits, states

    def check(self, row, tokens, columns):
        name = f"decode/pass{self.count}"
        assert tokens[1:] == tensor(f"{name}/ids")[row, columns[1:]].tolist()
        assert tensor(f"{name}/positions")[row, columns].tolist() == list(range(len(columns)))
        assert tensor(f"{name}/attended")[row].nonzero()[:, 0].tolist() == sorted(columns)


@pytest.mark.parametrize("choice", TARGETS)
def test_decoding_token_for_token(choice, monkeypatch):
    """Catches: a token inserted before its column, the column with the best token in place of the most probability,
    special ids in that sum, a stopped row that goes on, tokens that go into the prompt, a threshold for the other
    class."""
    passes, best = Passes(shown=choice == "column"), Insertion._best

    def noted(self, logits):
        passes.chosen, tokens = best(self, logits)
        return passes.chosen, tokens

    monkeypatch.setattr(Insertion, "_best", noted)
    objective = Insertion(choice=choice, threshold=float(GOLDEN["decode/stopping_threshold"]), special_ids=SPECIAL)
    found = objective.decode(Stored(passes), passes.prompt[:, 1:], int(GOLDEN["decode/passes"]))
    assert passes.count == int(GOLDEN["decode/passes"])
    assert torch.equal(found, tensor(f"decode/{TARGETS[choice]}"))


def backwards(ids, seen, positions):
    """Passes that insert the largest of 7, 8 and 9 that a row misses; they say stop, by 3 to 1, at two tokens behind 3.

    They would insert anything behind the 3 most gladly, and else behind the last token.
    """
    logits = torch.zeros(*ids.shape, int(GOLDEN["vocabulary"]), dtype=torch.float64)
    states = torch.zeros(*ids.shape, 2, dtype=torch.float64)
    for row, tokens in enumerate(in_places(ids, seen, positions)):
        answer = tokens[tokens.index(3) + 1 :]
        missing = max({7, 8, 9} - {*answer})
        for column in seen[row, :-1].nonzero()[:, 0].tolist():
            logits[row, column, missing] = 20.0 if ids[row, column] == 3 else float(positions[row, column])
        states[row, -1, 0] = math.log(3) if len(answer) == 2 else -9.0
    return logits, states


@pytest.mark.parametrize("order", ["forward", "reversed"])
def test_a_row_that_stops_too_early(order):
    """Catches: padding or some token where nothing was inserted, a gap in the middle, a row that is not turned back, a
    stop that waits for other rows, another threshold than that given, a row that outgrows its length."""
    prefix, mask = torch.tensor([[5, 4, 3], [0, 5, 3]]), torch.tensor([[1, 1, 1], [0, 1, 1]])
    lengths, step = torch.tensor([3, 1]), 1 if order == "forward" else -1
    for threshold, expected in ((0.74, [*[8, 9][::step], IGNORE]), (0.76, [7, 8, 9][::step])):
        objective = Insertion(order=order, threshold=threshold)
        found = objective.decode(Stored(backwards), prefix, lengths, mask)
        assert found.tolist() == [expected, [9, IGNORE, IGNORE]]


@pytest.mark.parametrize(("threshold", "expected"), [(0.74, [8, 9, IGNORE]), (0.76, [7, 9, 9])])
def test_forced_predictions_complete_the_answer(threshold, expected):
    """Catches: the best token alone, which may belong further behind; tokens put between or before those given; a stop
    that gives a token."""
    objective, shown = Insertion(threshold=threshold), torch.tensor([[7, 8, 9], [6, 6, 7]])
    found = objective.decode(Stored(backwards), torch.tensor([[3], [3]]), 3, shown=shown)
    assert found.tolist() == [expected, expected]


def test_the_number_of_dropped_tokens_is_uniform():
    """Catches: each token dropped by chance, never all or none of them, one number for the batch, the same tokens."""
    torch.manual_seed(0)
    rows = [{"prefix_ids": [1], "target_ids": [5, 6, 7]}, {"prefix_ids": [1], "target_ids": [8]}] * 4000
    dropped = Insertion().collate(rows)["dropped_ids"].ne(IGNORE)
    for some, length in ((dropped[::2], 3), (dropped[1::2], 1)):
        shares = torch.bincount(some.sum(dim=1), minlength=length + 1) / 4000
        torch.testing.assert_close(shares, torch.full((length + 1,), 1 / (length + 1)), rtol=0, atol=0.03)
        torch.testing.assert_close(some[:, :length].float().mean(dim=0), torch.full((length,), 0.5), rtol=0, atol=0.03)
        assert not some[:, length:].any()


def test_the_defaults_are_those_of_the_star_graph_recipe(tokenizer):
    """Catches: the class's threshold of 0.9, the padding left to be inserted."""
    objective = Insertion.from_tokenizer(tokenizer)
    assert (objective.threshold, objective.choice, objective.special_ids) == (0.5, "column", (14,))
    with pytest.raises(ValueError, match="choice='token' is not a choice; give one of 'column', 'pair'"):
        Insertion(choice="token")
    with pytest.raises(ValueError, match=r"special_ids=\('\|',\) must be a sequence of whole numbers from 0"):
        Insertion(special_ids=("|",))
