"""`token_order` against numbers made by running the code of arXiv 2508.19228 (zaydzuhri/token-order-prediction)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nt_failures.objectives import TokenOrder, auxiliary_modules
from nt_failures.objectives.losses import VocabularyHead, forward_pass, upcoming

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "token_order.npz")
PROMPT = int(GOLDEN["prompt_length"])


def tensor(name):
    return torch.from_numpy(GOLDEN[name])


class Stored(nn.Module):
    """A model with stored hidden states (B, S, D) in place of its trunk."""

    def __init__(self):
        super().__init__()
        self.dtype = torch.float64
        self.hidden = nn.Parameter(tensor("hidden"))
        self.U, order = (VocabularyHead(8, 17, bias=False, dtype=torch.float64) for _ in range(2))
        self.U.weight.data, order.weight.data = tensor("U"), tensor("U_top")
        self.add_module(auxiliary_modules.NAME, nn.ModuleDict({"order": order}))

    def forward(self, input_ids, attention_mask, use_cache, output_hidden_states, logits_to_keep):
        assert input_ids.shape == self.hidden.shape[:2]
        return type("Output", (), {"logits": self.U(self.hidden)[:, -logits_to_keep:], "hidden_states": [self.hidden]})

    @property
    def U_top(self):
        return self.get_submodule(auxiliary_modules.NAME)["order"]


def collated(**options):
    objective = TokenOrder(**options)
    ids = GOLDEN["ids"].tolist()
    return objective, objective.collate([{"prefix_ids": row[:PROMPT], "target_ids": row[PROMPT:]} for row in ids])


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("window", [None, int(GOLDEN["full/window"])])
def test_loss_and_gradients(window):
    """Catches: states before `=` that count, a mean over ranked tokens, a head or a state that gets no gradient."""
    model, (objective, batch) = Stored(), collated(window=window)
    loss = objective.loss(model, batch)
    mean = loss.sum / loss.count
    mean.backward()
    assert_close(mean.detach(), tensor("full/total")[()])
    assert_close(loss.parts["next_token"] / loss.count, tensor("full/ce")[()])
    assert_close(loss.parts["order"] / loss.count, tensor("full/listnet")[()])
    assert_close(model.hidden.grad, tensor("full/grad_hidden"))
    assert_close(model.U.weight.grad, tensor("full/grad_U"))
    assert_close(model.U_top.weight.grad, tensor("full/grad_U_top"))


@pytest.mark.parametrize("window", [1, 2, 3])
def test_windows(window):
    """Catches: one token too many in the window, as in the authors' plain function, unlike their kernel."""
    model, (objective, batch) = Stored(), collated(window=window)
    output = forward_pass(model, batch)
    _, summed = objective.extra_losses(model, output, batch)["order"]
    mean = summed / batch["labels"].ne(-100).sum()
    mean.backward()
    assert_close(mean.detach(), tensor(f"window{window}/listnet")[()])
    assert_close(model.hidden.grad, tensor(f"window{window}/grad_hidden"))
    assert_close(model.U_top.weight.grad, tensor(f"window{window}/grad_U_top"))


@pytest.mark.parametrize("case", ["full", "window1", "window2", "window3"])
def test_scores(case):
    """Catches: the last instead of the next occurrence, scores of the prompt. They may differ by a constant."""
    window, labels = int(GOLDEN[f"{case}/window"]), tensor("ids")[:, PROMPT:].long()
    scores = upcoming(labels, 17, window)
    shift = window + 1 - min(window, labels.shape[1])
    assert torch.equal((scores + shift).double(), tensor(f"{case}/scores").double())
