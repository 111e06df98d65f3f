"""`uniform_mask` against eq. 5 of arXiv 2406.05183, and against the code of the same group (arXiv 2412.05117)."""

from pathlib import Path

import numpy as np
import torch
from stored_states import StoredLogits

from nt_failures.objectives import UniformMask

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "masked_diffusion.npz")
MASK = int(GOLDEN["mask_id"])
PROMPT = int(GOLDEN["mlmu/prompt_length"])


def golden_batch():
    """The golden's rows, with its own tokens hidden in place of those that were drawn."""
    ids, hidden = torch.from_numpy(GOLDEN["mlmu/ids"]).long(), torch.from_numpy(GOLDEN["mlmu/masked"]).bool()
    objective = UniformMask(dummy_token_id=MASK)
    parts = objective.layout([{"prefix_ids": row[:PROMPT], "target_ids": row[PROMPT:]} for row in ids.tolist()])
    batch = objective.hidden_batch(parts, hidden, parts["target_ids"])
    return objective, batch, ids


def test_loss_and_gradient_of_equation_5():
    """Catches: logits one column off, the weight 1 / k or 1 / rate, a mean over the hidden tokens of the batch."""
    objective, batch, ids = golden_batch()
    hidden = torch.from_numpy(GOLDEN["mlmu/masked"]).bool()
    shown = torch.cat([ids[:, :PROMPT], ids[:, PROMPT:].masked_fill(hidden, MASK)], dim=1)
    assert torch.equal(batch["input_ids"], shown)
    model = StoredLogits(torch.from_numpy(GOLDEN["mlmu/logits"]))
    loss = objective.loss(model, batch)
    assert model.given["attention_mask"].eq(0).all()  # added to the scores: everyone sees everyone
    columns = hidden.shape[1]
    assert int(loss.count) == hidden.numel()
    of_paper = columns * loss.sum / loss.count
    of_paper.backward()
    torch.testing.assert_close(of_paper, torch.from_numpy(GOLDEN["mlmu/loss"])[()], rtol=0, atol=1e-9)
    torch.testing.assert_close(model.logits.grad, torch.from_numpy(GOLDEN["mlmu/grad_logits"]), rtol=0, atol=1e-9)


def test_rows_as_in_the_code_of_the_same_group():
    """Catches: a row that weighs by how many of its tokens are hidden. Theirs divides by k + 1e-5 and not by T."""
    objective, batch, _ = golden_batch()
    logits = torch.from_numpy(GOLDEN["mlmu/logits"])
    rows = [
        objective.loss(StoredLogits(logits[i : i + 1]), {name: values[i : i + 1] for name, values in batch.items()}).sum
        for i in range(len(logits))
    ]
    torch.testing.assert_close(torch.stack(rows), torch.from_numpy(GOLDEN["mlmu/loss_per_row"]), rtol=0, atol=1e-9)


def test_how_many_are_hidden_is_uniform():
    """Catches: k = 0, k drawn by a rate per token, one k for the batch, padding hidden, always the same places."""
    torch.manual_seed(0)
    rows = [{"prefix_ids": [1], "target_ids": [3, 4, 5]}, {"prefix_ids": [1, 2], "target_ids": [6, 7]}] * 3000
    hidden = UniformMask(dummy_token_id=MASK).collate(rows)["hidden"]
    counts = hidden.sum(dim=1)
    assert torch.bincount(counts[::2], minlength=4).tolist()[0] == 0
    torch.testing.assert_close(torch.bincount(counts[::2]) / 3000, torch.tensor([0, 1, 1, 1]) / 3, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.bincount(counts[1::2]) / 3000, torch.tensor([0, 1, 1]) / 2, rtol=0, atol=0.03)
    torch.testing.assert_close(hidden[::2].float().mean(dim=0), torch.full((3,), 2 / 3), rtol=0, atol=0.03)
    assert not hidden[1::2, 2].any()


class Following(torch.nn.Module):
    """Predicts in each column one more than what stands before it, and notes what it was shown."""

    def __init__(self):
        super().__init__()
        self.dtype, self.shown = torch.float32, []
        self.config = type("Config", (), {"max_position_embeddings": 64})

    def forward(self, input_ids, logits_to_keep, **_):
        self.shown.append(input_ids[0].tolist())
        before = torch.cat([input_ids[:, :1], input_ids[:, :-1]], dim=1)
        logits = torch.nn.functional.one_hot((before + 1) % 12, 12).float()
        return type("Output", (), {"logits": logits[:, -logits_to_keep:]})


def test_decoding_is_left_to_right_with_later_columns_hidden():
    """Catches: all columns filled at once, the surest first, a column that is predicted again."""
    model = Following()
    found = UniformMask(dummy_token_id=11).decode(model, torch.tensor([[1, 4]]), 3)
    assert found.tolist() == [[5, 6, 7]]
    assert model.shown == [[1, 4, 11, 11, 11], [1, 4, 5, 11, 11], [1, 4, 5, 6, 11]]
    forced = UniformMask(dummy_token_id=11).decode(model, torch.tensor([[1, 4]]), 3, shown=torch.tensor([[8, 2, 9]]))
    assert forced.tolist() == [[5, 9, 3]]
    assert model.shown[3:] == [[1, 4, 11, 11, 11], [1, 4, 8, 11, 11], [1, 4, 8, 2, 11]]
