"""`next_token` and `teacherless` against the code of arXiv 2403.06963 (gregorbachmann/Next-Token-Failures)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from stored_states import StoredLogits

import nt_failures as ntf
from nt_failures.data.batches import IGNORE
from nt_failures.objectives import find_objective

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "next_token.npz")


@pytest.mark.parametrize("order", ["forward", "reversed"])
@pytest.mark.parametrize("name", ["next_token", "teacherless"])
def test_layout_loss_and_gradient(name, order):
    """Catches: another numbering of tokens, `=` among the dummies, the first target token hidden, labels one column
    off, the prompt turned round, a loss on the prompt, a sum for a mean."""
    stored = {key: torch.from_numpy(GOLDEN[f"{order}/{name}/{key}"]) for key in ("x", "y", "loss", "grad_logits")}
    tokenizer = ntf.word_level_tokenizer(ntf.PathStar(degree=2, path_length=5, num_nodes=int(GOLDEN["num_nodes"])))
    texts = [text.partition("=") for text in GOLDEN["rows"].tolist()]
    rows = Dataset.from_list([{"prompt": prompt + equals, "completion": path} for prompt, equals, path in texts])
    objective = find_objective(name).from_tokenizer(tokenizer, order=order)
    batch = objective.collate([*ntf.tokenize(rows, tokenizer)])
    assert torch.equal(batch["input_ids"][:, :-1], stored["x"])  # theirs leaves out the last token, which has no label
    labels = batch["labels"][:, 1:]
    assert torch.equal(labels.where(labels.ne(IGNORE), -1), stored["y"])
    model = StoredLogits(torch.from_numpy(GOLDEN["logits"]))
    loss = objective.loss(model, batch)
    assert torch.equal(model.given["input_ids"], stored["x"])
    (loss.sum / loss.count).backward()
    torch.testing.assert_close((loss.sum / loss.count).detach(), stored["loss"], rtol=0, atol=1e-9)
    torch.testing.assert_close(model.logits.grad, stored["grad_logits"], rtol=0, atol=1e-9)
