"""`token_order` against numbers made by running the code of arXiv 2508.19228 (zaydzuhri/token-order-prediction)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_trunk import StoredTrunk

from nt_failures.objectives import TokenOrder, auxiliary_modules
from nt_failures.objectives.losses import VocabularyHead, forward_pass, upcoming

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "token_order.npz")
PROMPT = int(GOLDEN["prompt_length"])


def tensor(name):
    return torch.from_numpy(GOLDEN[name])


def stored():
    """A model with stored hidden states in place of its trunk."""
    head = VocabularyHead(8, 17, bias=False)
    model = StoredTrunk(tensor("ids"), tensor("hidden"), tensor("U")).with_modules(order=head)
    head.weight.data = tensor("U_top")
    return model


def collated(**options):
    objective = TokenOrder(**options)
    ids = GOLDEN["ids"].tolist()
    return objective, objective.collate([{"prefix_ids": row[:PROMPT], "target_ids": row[PROMPT:]} for row in ids])


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("window", [None, int(GOLDEN["full/window"])])
def test_loss_and_gradients(window):
    """Catches: states before `=` that count, a mean over ranked tokens, a head or a state that gets no gradient."""
    model, (objective, batch) = stored(), collated(window=window)
    loss = objective.loss(model, batch)
    mean = loss.sum / loss.count
    mean.backward()
    assert_close(mean.detach(), tensor("full/total")[()])
    assert_close(loss.parts["next_token"] / loss.count, tensor("full/ce")[()])
    assert_close(loss.parts["order"] / loss.count, tensor("full/listnet")[()])
    assert_close(model.states.grad, tensor("full/grad_hidden"))
    assert_close(model.unembedding.weight.grad, tensor("full/grad_U"))
    assert_close(auxiliary_modules.modules_of(model)["order"].weight.grad, tensor("full/grad_U_top"))


@pytest.mark.parametrize("window", [1, 2, 3])
def test_windows(window):
    """Catches: one token too many in the window, as in the authors' plain function, unlike their kernel."""
    model, (objective, batch) = stored(), collated(window=window)
    output = forward_pass(model, batch)
    _, summed = objective.extra_losses(model, output, batch)["order"]
    mean = summed / batch["labels"].ne(-100).sum()
    mean.backward()
    assert_close(mean.detach(), tensor(f"window{window}/listnet")[()])
    assert_close(model.states.grad, tensor(f"window{window}/grad_hidden"))
    assert_close(auxiliary_modules.modules_of(model)["order"].weight.grad, tensor(f"window{window}/grad_U_top"))


@pytest.mark.parametrize("case", ["full", "window1", "window2", "window3"])
def test_scores(case):
    """Catches: the last instead of the next occurrence, scores of the prompt. They may differ by a constant."""
    window, labels = int(GOLDEN[f"{case}/window"]), tensor("ids")[:, PROMPT:].long()
    scores = upcoming(labels, 17, window)
    shift = window + 1 - min(window, labels.shape[1])
    assert torch.equal((scores + shift).double(), tensor(f"{case}/scores").double())
