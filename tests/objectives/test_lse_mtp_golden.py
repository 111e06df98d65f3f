"""`lse_mtp` against numbers made by running the code of arXiv 2604.06155 (QiminZhong/LSE-MTP)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_trunk import StoredTrunk
from torch import nn

from nt_failures.objectives import LseMtp, NextToken, auxiliary_modules

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "lse_mtp.npz")
RAGGED = [
    {"prefix_ids": [1, 2, 3], "target_ids": [7, 8]},
    {"prefix_ids": [4], "target_ids": [9, 10, 11, 12]},
    {"prefix_ids": [5, 6], "target_ids": [3]},
]


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", ["whole_row", "target_only", "weights"])
def test_loss_and_gradients(case):
    """Catches: a latent one column off, a mean of the latent or semantic term over the labels alone, a term that sends
    a gradient to the states or embeddings it compares with, labels of states before `=` left out."""
    golden = {name.removeprefix(f"{case}/"): GOLDEN[name] for name in GOLDEN.files if name.startswith(case)}
    prompt, ids = int(golden["prompt_length"]), golden["ids"].tolist()
    latent_weight, semantic_weight = golden["weights_latent_semantic"].tolist()
    matrices = torch.from_numpy(golden["heads"])
    objective = LseMtp(
        heads=len(matrices) + 1,
        latent_weight=latent_weight,
        semantic_weight=semantic_weight,
        predicts="row" if case == "whole_row" else "target",
        pad_token_id=0,
    )
    batch = objective.collate([{"prefix_ids": row[:prompt], "target_ids": row[prompt:]} for row in ids])
    heads = {f"head_{k}": nn.Linear(8, 8, bias=False) for k in range(2, objective.heads + 1)}
    E = torch.from_numpy(golden["E"])
    model = StoredTrunk(batch["input_ids"], torch.from_numpy(golden["hidden"]), E).with_modules(**heads)
    for head, matrix in zip(heads.values(), matrices, strict=True):
        head.weight.data = matrix
    model.embedding.weight = model.unembedding.weight  # tied, as in the source
    loss = objective.loss(model, batch)
    assert int(loss.count) == int(np.count_nonzero(golden["labels"][:, 0]))
    mean = loss.sum / loss.count
    mean.backward()
    close(mean.detach(), golden["total"])
    parts = {name: part / loss.count for name, part in loss.parts.items()}
    for name, expected in zip(["next_token", *heads], golden["ce_per_head"], strict=True):
        close(parts[name], expected)
    close(parts["latent"], golden["latent_per_head"].sum())
    close(parts["semantic"], golden["semantic_per_head"].sum())
    close(model.states.grad, golden["grad_hidden"])
    close(model.unembedding.weight.grad, golden["grad_E"])
    close(torch.stack([head.weight.grad for head in heads.values()]), golden["grad_heads"])


@pytest.mark.parametrize("predicts", ["target", "row"])
@pytest.mark.parametrize("heads", [1, 2, 9])
def test_a_row_does_not_see_the_rows_beside_it(predicts, heads, tiny_model):
    """Catches: padded columns in a mean, the last token of a short row read; a crash with more heads than columns."""
    model = tiny_model("gpt2", spread=0.5).double()
    objective = LseMtp(heads=heads, latent_weight=0.7, semantic_weight=0.4, predicts=predicts, pad_token_id=14)
    objective.attach(model)
    together = objective.loss(model, objective.collate(RAGGED))
    alone = [objective.loss(model, objective.collate([row])) for row in RAGGED]
    close(together.sum, sum(loss.sum for loss in alone))
    assert int(together.count) == sum(int(loss.count) for loss in alone) == {"target": 7, "row": 10}[predicts]
    for name, part in together.parts.items():
        close(part, sum(loss.parts[name] for loss in alone))


def test_one_head_is_next_token(tiny_model):
    """Catches: a latent term of head 1, a module that nothing trains."""
    model = tiny_model("gpt2", spread=0.5)
    objective, plain = LseMtp(heads=1, pad_token_id=14), NextToken(pad_token_id=14)
    objective.attach(model)
    assert not list(auxiliary_modules.modules_of(model).parameters())
    found, expected = (o.loss(model, o.collate(RAGGED)) for o in (objective, plain))
    torch.testing.assert_close(found.sum, expected.sum)
    assert list(found.parts) == ["next_token"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads=0 must be a whole number from 1 to 64"),
        ({"latent_weight": -1}, "latent_weight=-1 must be a number from 0; the default is 0.1"),
        ({"predicts": "prompt"}, "predicts='prompt' is not a choice; give one of 'target', 'row'"),
    ],
)
def test_options_out_of_range(options, message):
    """Catches: an option that trains something else in silence."""
    with pytest.raises(ValueError, match=message):
        LseMtp(**options)
