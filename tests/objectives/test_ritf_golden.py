"""`ritf` against numbers computed from the formula of arXiv 2503.10542; its third term and its nodes by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_states import StoredLogits

from nt_failures.objectives import Ritf

GOLDEN = {
    name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parents[1] / "goldens" / "ritf.npz").items()
}
BAR, EQUALS, SLASH, PAD = 13, 14, 15, 16
RAGGED = [
    {"prefix_ids": [3, 4, 10, 3, 5, 10, 4, 6, 12, 3, 6, 11], "target_ids": [3, 4, 6]},
    {"prefix_ids": [1, 2, 12, 7, 2, 11], "target_ids": [1, 2]},
    {"prefix_ids": [8, 11], "target_ids": [8]},
]


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-9, atol=1e-9)


def rows_of_the_golden():
    """Prompts that name each node of the other arms twice, between separators, and all nodes of the target."""
    for target, others in zip(GOLDEN["target_ids"].tolist(), GOLDEN["other_arm_ids"].tolist(), strict=True):
        arms = [symbol for node in others for symbol in (target[0], node, BAR, node, target[-1], BAR)]
        prefix = [*arms, *target, SLASH, target[0], target[-1], EQUALS]
        yield {"prefix_ids": prefix, "target_ids": target}


@pytest.mark.parametrize("arms_weight", [0, 1, 0.5])
def test_loss_and_gradients(arms_weight):
    """Catches: a node that counts as often as the prompt names it, separators or nodes of the target ranked as other
    arms, tokens said already that are ranked, a mean over states or pairs."""
    objective = Ritf(arms_weight=arms_weight, rest_weight=0, separators=(BAR, EQUALS, SLASH), pad_token_id=PAD)
    model = StoredLogits(GOLDEN["logits"].clone())
    batch = objective.collate([*rows_of_the_golden()])
    loss = objective.loss(model, batch)
    mean = loss.sum / loss.count
    mean.backward()
    close(loss.parts["future"] / loss.count, GOLDEN["future"])
    close(loss.parts["arms"] / loss.count, GOLDEN["arms"])
    close(mean.detach(), GOLDEN["future"] + arms_weight * GOLDEN["arms"])
    close(model.logits.grad, GOLDEN["grad_logits_future"] + arms_weight * GOLDEN["grad_logits_arms"])


def test_the_rest_of_the_vocabulary():
    """Catches: a third term that ranks against nodes of other arms or tokens to come, or leaves out those said."""
    objective = Ritf(separators=(BAR, EQUALS, SLASH), pad_token_id=PAD)
    model = StoredLogits(GOLDEN["logits"].clone())
    loss = objective.loss(model, objective.collate([*rows_of_the_golden()]))
    expected = 0.0
    for row, scores in enumerate(GOLDEN["logits"].tolist()):
        target, others = GOLDEN["target_ids"][row].tolist(), GOLDEN["other_arm_ids"][row].tolist()
        for i, z in enumerate(scores):
            most = max(z[v] for v in range(len(z)) if v not in target[i:] and v not in others)
            expected += sum(max(0.0, 1 - z[r] + most) for r in target[i:])
    close(loss.parts["rest"] / loss.count, torch.tensor(expected / 2, dtype=torch.float64))
    close(loss.sum.detach(), sum(loss.parts.values()))


def test_separators_of_a_tokenizer(tokenizer, examples):
    """Catches: `|` or `=` ranked as a node, the padding's letters taken for a name."""
    objective = Ritf.from_tokenizer(tokenizer)
    assert objective.separators == (10, 11, 12, 13, 14)
    for row, others in zip(examples, objective.collate(examples)["other_ids"].tolist(), strict=True):
        nodes = {token for token in row["prefix_ids"] if token < 10} - {*row["target_ids"]}
        assert sorted(token for token in others if token != -100) == sorted(nodes)
        assert len(nodes) == 2
    assert Ritf.from_tokenizer(tokenizer, separators=(10,)).separators == (10,)
    with pytest.raises(ValueError, match=r"separators=\('\|',\) must be a sequence of whole numbers from 0"):
        Ritf(separators=("|",))


def test_padding_is_no_token_that_stood_before():
    """Catches: a node of another arm left out because its id is that of the padding, as a tokenizer without a padding
    token has it."""
    rows = [{"prefix_ids": prefix, "target_ids": [1, 3]} for prefix in ([4, 5, 6, 1, 3], [1, 2, 3])]
    assert Ritf(pad_token_id=2).collate(rows)["other_ids"].tolist()[1] == [-100, -100, -100, 2, -100]


@pytest.mark.parametrize("order", ["forward", "reversed"])
def test_a_row_does_not_see_the_rows_beside_it(order, tiny_model, tokenizer):
    """Catches: padding among the nodes, a state behind a short target that ranks, a row that weighs by its square."""
    model = tiny_model("gpt2", spread=0.5).double()
    objective = Ritf.from_tokenizer(tokenizer, order=order)
    batch = objective.collate(RAGGED)
    assert [sorted({*row} - {-100}) for row in batch["other_ids"].tolist()] == [[5], [7], []]
    together = objective.loss(model, batch)
    alone = [objective.loss(model, objective.collate([row])) for row in RAGGED]
    close(together.sum, sum(loss.sum for loss in alone))
    assert int(together.count) == 6
    for name, part in together.parts.items():
        close(part, sum(loss.parts[name] for loss in alone))
