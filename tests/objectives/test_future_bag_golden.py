"""The future bag against numbers of the paper's formula and of public code (shoaibahmed/Next-Token-Failures)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_states import GivenStates
from stored_trunk import StoredTrunk
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from nt_failures.objectives.future_bag import FutureBag

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "future_bag.npz")
START = int(GOLDEN["paper/prompt_length"])
IDS = torch.from_numpy(GOLDEN["paper/ids"]).long()
ROWS = [{"prefix_ids": row[:START], "target_ids": row[START:]} for row in IDS.tolist()]


def read(name):
    return torch.from_numpy(GOLDEN[name])


def paper(tau, weights, states):
    """The objective, and a model whose bag's logits are the file's: its head is the identity."""
    logits = read("paper/logits")
    rows, _, vocabulary = logits.shape
    w = tuple(read("paper/w").tolist()) if weights == "w" else None
    states_BSD = torch.cat([torch.zeros(rows, START - 1, vocabulary), logits], dim=1)
    model = StoredTrunk(IDS, states_BSD, torch.zeros(vocabulary, vocabulary, dtype=torch.float64))
    bag = nn.Linear(vocabulary, vocabulary, bias=False)
    nn.init.eye_(bag.weight)
    window = int(GOLDEN[f"paper/{tau}/tau"])
    return FutureBag(window=window, token_weights=w, states=states), model.with_modules(bag=bag)


@pytest.mark.parametrize("states", ["all", "with_bag"])
@pytest.mark.parametrize("weights", ["ones", "w"])
@pytest.mark.parametrize("tau", ["whole", "tau3", "tau2"])
def test_the_papers_formula(tau, weights, states):
    """Catches: a mean over the vocabulary, or of bag and rest, for the sum; a bag one token longer; the next token in
    the bag; weights of the bag's tokens alone; an empty bag that counts or not."""
    objective, model = paper(tau, weights, states)
    loss = objective.loss(model, objective.collate(ROWS))
    name = f"paper/{tau}/{weights}/mean_{'all_states' if states == 'all' else 'states_with_bag'}"
    torch.testing.assert_close(loss.parts["bag"] / loss.count, read(name), rtol=0, atol=1e-9)
    next_token = torch.log(torch.tensor(14.0, dtype=torch.float64))  # of an unembedding of zeros
    torch.testing.assert_close(loss.sum / loss.count, next_token + read(name), rtol=0, atol=1e-9)
    if states == "all":
        (loss.sum / loss.count).backward()
        gradient = model.states.grad[:, START - 1 :]
        torch.testing.assert_close(
            gradient, read(f"paper/{tau}/{weights}/grad_logits_mean_all_states"), rtol=0, atol=1e-9
        )


def test_the_public_codes_bag_of_words():
    """Catches: a bag for every state, the first token left out, a mean over the vocabulary, an unembedding of its own
    or one that the bag does not train."""
    group = "multihead/bow"
    model = StoredTrunk(IDS, read(f"{group}/states")[0], read(f"{group}/U"))
    weight = float(GOLDEN[f"{group}/bow_weight"])
    objective = FutureBag(states="first", next_token_in_bag=True, head="shared", weight=weight)
    loss = objective.loss(model, objective.collate(ROWS))
    for name, part in loss.parts.items():
        torch.testing.assert_close(
            part / loss.count, read(f"{group}/{'bow' if name == 'bag' else name}"), rtol=0, atol=1e-9
        )
    total = loss.sum / loss.count
    torch.testing.assert_close(total, read(f"{group}/total"), rtol=0, atol=1e-9)
    total.backward()
    torch.testing.assert_close(model.states.grad, read(f"{group}/grad_states")[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(model.unembedding.weight.grad, read(f"{group}/grad_U"), rtol=0, atol=1e-9)


class NormOfOnes(nn.Module):
    """In place of the final norm, which the file's states are behind."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, dtype=torch.float64))

    def forward(self, states):
        return self.weight * states


def test_the_public_codes_bag_from_a_block_of_its_own():
    """Catches: a block behind the model's last one, the bag read from the next token's state, or without the norm."""
    group = "multihead/separate_bow"
    states, unembedding = read(f"{group}/states"), read(f"{group}/U")
    vocabulary, width = unembedding.shape
    sizes = {"n_layer": 1, "n_head": 1, "n_positions": 16, "bos_token_id": None, "eos_token_id": None}
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=vocabulary, n_embd=width, tie_word_embeddings=False, **sizes)
    ).double()
    objective = FutureBag(
        states="first", next_token_in_bag=True, head="block", weight=float(GOLDEN[f"{group}/bow_weight"])
    )
    objective.attach(model)
    model.lm_head.weight = nn.Parameter(unembedding)
    model.transformer.ln_f = NormOfOnes(width)
    blocks = model.transformer.h[0], model.objective_modules["block"] = GivenStates(states[0]), GivenStates(states[1])
    loss = objective.loss(model, objective.collate(ROWS))
    total = loss.sum / loss.count
    found = {"next_token": loss.parts["next_token"] / loss.count, "bow": loss.parts["bag"] / loss.count, "total": total}
    total.backward()
    found |= {"grad_states": torch.stack([block.states.grad for block in blocks]), "grad_U": model.lm_head.weight.grad}
    for name, value in found.items():
        torch.testing.assert_close(value, read(f"{group}/{name}"), rtol=0, atol=1e-9)
