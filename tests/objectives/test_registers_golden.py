"""Registers against the numbers of their authors' code."""

import json
from pathlib import Path

import pytest
import torch
from stored_states import StoredLogits

from nt_failures.data.batches import IGNORE
from nt_failures.objectives import Registers

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "registers.json").read_text(encoding="utf-8"))
CASES = [(i, offset["d"]) for i, row in enumerate(GOLDEN["rows"]) for offset in row["offsets"]]
SEES = {"causal": "sees_causal_prompt", "bidirectional": "sees_code"}
EXACT = {"rtol": 1e-9, "atol": 1e-9}
by_case = pytest.mark.parametrize(("row", "d"), CASES)
by_prompt = pytest.mark.parametrize("prompt", SEES)


def built(row, d, prompt="causal"):
    """The row and its numbers at offset d, the objective that draws it, and a model with the stored logits."""
    found = GOLDEN["rows"][row]
    offset = next(offset for offset in found["offsets"] if offset["d"] == d)
    options = {"share": GOLDEN["weight_a"], "min_distance": d, "max_distance": d, "prompt_attention": prompt}
    objective = Registers(**options, pad_token_id=GOLDEN["vocabulary"] - 1)
    model = StoredLogits(torch.tensor([found["logits"]], dtype=torch.float64))
    Registers().attach(model)  # the stub offers every attention
    return found, offset, objective, model


@by_case
def test_layout(row, d):
    """Catches: no register behind `=`, a label or a place one off, a register that is left out of a short target."""
    found, offset, objective, _ = built(row, d)
    batch = objective.collate([found])
    length, ordinary = len(found["target_ids"]), len(found["prefix_ids"]) + len(found["target_ids"])
    assert batch["input_ids"][0, :ordinary].tolist() == found["prefix_ids"] + found["target_ids"]
    assert batch["attention_mask"].tolist() == [[1] * (ordinary + length)]
    assert batch["position_ids"].tolist() == [offset["ordinary_positions"] + offset["register_positions"]]
    assert batch["labels"][0, 1:ordinary].tolist() == offset["ordinary_labels"][:-1]
    assert batch["labels"][0, ordinary:].tolist() == [IGNORE] * length
    assert batch["register_labels"].tolist() == [offset["register_labels"]]


@by_case
@by_prompt
def test_loss_gradients_and_who_sees_whom(row, d, prompt):
    """Catches: one mean over tokens and registers together, registers that see one another or the token of their label,
    tokens that see registers, embeddings of some token in the registers' columns."""
    found, offset, objective, model = built(row, d, prompt)
    loss = objective.loss(model, objective.collate([found]))
    length = len(found["target_ids"])
    assert int(loss.count) == length
    torch.testing.assert_close(loss.parts["next_token"].item() / length, offset["ce_ordinary"], **EXACT)
    torch.testing.assert_close(loss.parts["registers"].item() / length, offset["ce_registers"], **EXACT)
    total = loss.sum / loss.count
    torch.testing.assert_close(total.item(), offset["total"], **EXACT)
    total.backward()
    torch.testing.assert_close(model.logits.grad[0], torch.tensor(offset["grad_logits"], dtype=torch.float64), **EXACT)
    assert (model.given["attention_mask"][0, 0] == 0).int().tolist() == found[SEES[prompt]]
    embedded = model.given["inputs_embeds"][0]
    tokens = model.get_input_embeddings()(torch.tensor(found["prefix_ids"] + found["target_ids"]))
    assert torch.equal(embedded[:-length], tokens)
    assert torch.equal(embedded[-length:], model.objective_modules["register"].weight.expand(length, -1))


def test_a_batch_of_rows_of_several_sizes():
    """Catches: registers placed by the batch's widths, a row's registers averaged with another's, padding seen."""
    rows = GOLDEN["rows"][:3]
    objective = Registers(share=0.3, min_distance=2, max_distance=2, pad_token_id=12)
    batch = objective.collate(rows)
    columns = batch["attention_mask"].bool()
    logits = torch.randn(*columns.shape, 13, dtype=torch.float64)
    for k, row in enumerate(rows):
        logits[k, columns[k]] = torch.tensor(row["logits"], dtype=torch.float64)
    model = StoredLogits(logits)
    objective.attach(model)
    loss = objective.loss(model, batch)
    offsets = [next(offset for offset in row["offsets"] if offset["d"] == 2) for row in rows]
    expected = sum(offset["total"] * len(row["target_ids"]) for offset, row in zip(offsets, rows, strict=True))
    torch.testing.assert_close(loss.sum.item(), expected, **EXACT)
    assert int(loss.count) == 5 + 3 + 6
    for k, (row, offset) in enumerate(zip(rows, offsets, strict=True)):
        seen = model.given["attention_mask"][k, 0] == 0
        assert seen[columns[k]][:, columns[k]].int().tolist() == row["sees_causal_prompt"]
        assert not bool(seen[:, ~columns[k]].any())
        places = batch["position_ids"][k, columns[k]].tolist()
        assert places == offset["ordinary_positions"] + offset["register_positions"]
