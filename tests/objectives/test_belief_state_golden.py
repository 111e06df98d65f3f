"""The belief state against numbers of its authors' code (microsoft/BST): loss, gradients, labels, decoding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_trunk import StoredTrunk
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from nt_failures.objectives.belief_state import END, BeliefState, PairHead

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "belief_state.npz")
CASES = {"star": (2, "end"), "gap1": (1, "end"), "gap1_plain": (1, "tokens"), "gap3": (3, "end")}
by_case = pytest.mark.parametrize("case", CASES)


class StoredBackward(nn.Module):
    """The backward encoder: column z of `states` (B, S, D) once it has read the columns S - 1 to z."""

    def __init__(self, states, embedded):
        super().__init__()
        self.states = nn.Parameter(states)
        self.embedded = embedded

    def forward(self, inputs_embeds, use_cache):
        rows, columns = inputs_embeds.shape[:2]
        assert torch.equal(inputs_embeds, self.embedded.flip(1)[:rows, :columns])
        return BaseModelOutput(last_hidden_state=self.states.flip(1)[:rows, :columns])


def read(case, name):
    return torch.from_numpy(GOLDEN[f"{case}/{name}"])


@pytest.fixture
def given(case):
    """The objective, the model made of the file's states and weights, and the rows, without EOS."""
    ids, start = read(case, "ids").long(), int(read(case, "prompt_length"))
    lm = read(case, "head/lm")
    vocabulary, width = len(lm) - 1, lm.shape[1]  # EOS is the last id
    embedding = torch.randn(vocabulary + 1, width, dtype=torch.float64, generator=torch.manual_seed(0))
    head = PairHead(width, read(case, "head/down").shape[1], vocabulary + 1)
    weights = {f"{name}.weight": read(case, f"head/{name}") for name in ("gate_up", "down", "norm")}
    head.double().load_state_dict(weights | {"unembedding.weight": lm})
    end = nn.Embedding.from_pretrained(embedding[vocabulary:], freeze=False)
    backward = StoredBackward(read(case, "backward"), embedding[ids])
    model = StoredTrunk(ids, read(case, "forward"), lm[:-1].clone(), embedding[:vocabulary])
    model.with_modules(end=end, backward=backward, pair=head)
    gap, adjacent = CASES[case]
    assert gap == int(read(case, "minimum_gap"))
    rows = [{"prefix_ids": row[:start], "target_ids": row[start:-1]} for row in ids.tolist()]
    return BeliefState(minimum_gap=gap, adjacent=adjacent), model, rows


@by_case
def test_loss_and_gradients(case, given):
    """Catches: a head without residual or norm, or with its halves swapped; a sum of both halves for their mean, a mean
    over the pairs of the batch, a state one column off, a state without gradient."""
    objective, model, rows = given
    loss = objective.loss(model, objective.collate(rows))
    total = loss.sum / loss.count
    torch.testing.assert_close(total, read(case, "loss"), rtol=0, atol=1e-9)
    torch.testing.assert_close((loss.parts["next_token"] + loss.parts["previous_token"]) / 2, loss.sum)
    total.backward()
    modules = model.objective_modules
    found = {"forward": model.states, "backward": modules["backward"].states}
    for name in ("gate_up", "down", "norm"):
        found[f"head/{name}"] = getattr(modules["pair"], name).weight
    found["head/lm"] = modules["pair"].unembedding.weight
    for name, weight in found.items():
        torch.testing.assert_close(weight.grad, read(case, f"grad_{name}"), rtol=0, atol=1e-9)


@by_case
def test_loss_of_each_row(case, given):
    """Catches: rows that see each other, a row's mean over the pairs of another."""
    objective, model, rows = given
    batch = objective.collate(rows)
    first, both = (objective.loss(model, {name: tensor[:n] for name, tensor in batch.items()}) for n in (1, 2))
    sums = torch.stack([first.sum, both.sum - first.sum]) / first.count  # rows of one length
    torch.testing.assert_close(sums, read(case, "loss_per_row"), rtol=0, atol=1e-9)


@by_case
def test_pairs_and_labels(case, given):
    """Catches: a gap counted in other columns, EOS for a token or a token for EOS, the next label for the previous."""
    objective, model, rows = given
    batch = objective.collate(rows)
    start, last = int(read(case, "prompt_length")) - 1, model.ids.shape[1] - 1
    eos = int(read(case, "eos_id"))
    wanted = list(zip(*(read(case, name).tolist() for name in ("targets_next", "targets_prev")), strict=True))
    for row, (following, previous) in enumerate(wanted):
        expected = zip(map(tuple, read(case, "pairs").tolist()), zip(following, previous, strict=True), strict=True)
        columns = [(start + i, last - k) for i, k in batch["pairs"][row].tolist()]
        labels = [tuple(eos if i == END else i for i in ends) for ends in batch["pair_labels"][row].tolist()]
        assert dict(zip(columns, labels, strict=True)) == dict(expected)
        assert len(set(columns)) == len(columns)


@by_case
def test_decoding(case, given, monkeypatch):
    """Catches: the previous half decoded, a backward state that has read more than EOS, EOS as an answer's token."""
    objective, model, rows = given
    seen = []
    ends = BeliefState.ends

    def watched(*args):
        seen.append(ends(*args))
        return seen[-1]

    monkeypatch.setattr(BeliefState, "ends", staticmethod(watched))
    model.config = type("Config", (), {"max_position_embeddings": 100})
    token = objective.decode(model, torch.tensor([rows[0]["prefix_ids"]]), 1)
    for name, logits in zip(("next", "prev"), seen[0], strict=True):
        torch.testing.assert_close(logits[0, 0], read(case, f"decode_logits_{name}"), rtol=0, atol=1e-9)
    assert token.item() == int(read(case, "decode_logits_next")[:-1].argmax())


def test_inner_width():
    """Catches: another rounding than to the nearest 128."""
    rule = {int(width): int(inner) for width, inner in GOLDEN["width/D_hidden"]}
    assert {width: PairHead.inner_width(width) for width in rule} == rule
    assert PairHead.inner_width(8) == 128  # 0 in the source
