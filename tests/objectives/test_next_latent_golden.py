"""Next latent against the numbers of its authors' code."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from stored_states import StoredStates

from nt_failures.objectives import NextLatent, auxiliary_modules
from nt_failures.objectives.next_latent import LatentStep

GOLDEN = dict(np.load(Path(__file__).parents[1] / "goldens" / "next_latent.npz"))
CASES = ("eos", "no_eos", "one_step", "long_horizon", "weights")
EXACT = {"rtol": 1e-9, "atol": 1e-9}
by_case = pytest.mark.parametrize("case", CASES)


def read(case):
    """The arrays of a case by the names behind it, as tensors."""
    return {k.removeprefix(f"{case}/"): torch.from_numpy(v) for k, v in GOLDEN.items() if k.startswith(f"{case}/")}


def built(case):
    """The objective of a case, its model with the stored network, and the rows."""
    found = read(case)
    smooth, kl, ce = found["weights_smooth_kl_ce"].tolist()
    eos = int(found["eos_id"])
    options = {"smooth_weight": smooth, "kl_weight": kl, "ce_weight": ce, "horizon": int(found["horizon"])}
    objective = NextLatent(**options, end_token_id=None if eos < 0 else eos)
    model = StoredStates(found["hidden"], found["U"], found["embedded"])
    step = LatentStep(found["hidden"].shape[-1], len(found["net/mid"]))
    auxiliary_modules.attach(model, step=step)
    names = ("up", "mid", "down", "norm")
    step.load_state_dict({f"{name}.weight": found[f"net/{name}"] for name in names})
    prompt = int(found["prompt_length"])
    rows = [{"prefix_ids": ids[:prompt], "target_ids": ids[prompt:]} for ids in found["ids"].tolist()]
    return objective, model, rows, found


@by_case
def test_loss_and_gradients(case):
    """Catches: a KL over the prompt, the last token's state or EOS's compared or left out, a norm over the state alone,
    state before embedding, a mean over all steps' columns together, targets or the unembedding that are pulled, too."""
    objective, model, rows, found = built(case)
    loss = objective.loss(model, objective.collate(rows))
    count = loss.count.item()
    assert count == found["ids"][:, int(found["prompt_length"]) :].numel()
    for name in ("next_token", "smooth", "kl"):
        torch.testing.assert_close(loss.parts[name] / count, found[name], **EXACT)
    assert ("ce" in loss.parts) == (objective.ce_weight > 0)
    if objective.ce_weight:
        torch.testing.assert_close(loss.parts["ce"] / count, found["ce_per_step"].mean(), **EXACT)
    torch.testing.assert_close(loss.sum / count, found["total"], **EXACT)
    (loss.sum / count).backward()
    step = auxiliary_modules.modules_of(model)["step"]
    grads = {f"net/{name}": getattr(step, name).weight.grad for name in ("norm", "up", "mid", "down")}
    grads |= {"hidden": model.hidden.grad, "embedded": model.embedded.weight.grad, "U": model.unembedding.weight.grad}
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, found[f"grad_{name}"], **EXACT)


@by_case
def test_rolled_states(case):
    """Catches: rolled from the true state at each step, through the token before, or one step too few."""
    objective, model, rows, found = built(case)
    rolled = []
    auxiliary_modules.modules_of(model)["step"].register_forward_hook(lambda step, given, out: rolled.append(out))
    objective.loss(model, objective.collate(rows))
    assert len(rolled) == int(found["horizon"])
    for i, states in enumerate(rolled, start=1):
        torch.testing.assert_close(states, found[f"step{i}/rolled"], **EXACT)


@pytest.mark.parametrize("case", ["eos", "no_eos"])
def test_horizon_of_path_star(case):
    """Catches: EOS counted as a token of the target, whose length less 2 is the horizon where none is given."""
    objective, model, rows, found = built(case)
    loss = dataclasses.replace(objective, horizon=None).loss(model, objective.collate(rows))
    torch.testing.assert_close(loss.sum / loss.count, found["total"], **EXACT)


@by_case
def test_padding_and_neighbours_change_nothing(case):
    """Catches: columns counted by their place in the batch, which padding moves; a shorter row's padding compared."""
    objective, model, rows, found = built(case)
    shorter = {"prefix_ids": rows[0]["prefix_ids"], "target_ids": rows[0]["target_ids"][:1]}
    wider = {"prefix_ids": [1, 2, *rows[0]["prefix_ids"]], "target_ids": [*rows[0]["target_ids"], 3]}
    batch = objective.collate([*rows, shorter, wider])
    columns = batch["attention_mask"][0].bool()
    torch.manual_seed(0)
    padded = torch.randn(2, 4, columns.numel(), model.hidden.shape[-1], dtype=torch.float64)
    padded[:, :2, columns] = torch.stack([model.hidden.data, model.embedded.weight.data])

    def loss_of(rows):
        hidden, embedded = padded[:, rows]
        part = StoredStates(hidden, found["U"], embedded)
        part.add_module(auxiliary_modules.NAME, auxiliary_modules.modules_of(model))
        return objective.loss(part, {name: tensor[rows] for name, tensor in batch.items()})

    loss = loss_of(slice(0, 2))
    torch.testing.assert_close(loss.sum / loss.count, found["total"], **EXACT)
    alone = sum(loss_of(slice(k, k + 1)).sum for k in range(4))
    torch.testing.assert_close(loss_of(slice(0, 4)).sum, alone, **EXACT)


def test_width_of_the_network():
    """Catches: another rounding than the source's, a network without width where its rule gives 0."""
    rule = GOLDEN["width/D_proj_hidden"].tolist()
    assert len(rule) == 16
    for width, factor, hidden in rule:
        states = torch.zeros(1, 1, int(width))
        model = StoredStates(states, states[0], states)
        NextLatent(projection_factor=factor).attach(model)
        step = auxiliary_modules.modules_of(model)["step"]
        inside = int(max(hidden, 128))
        shapes = [tuple(layer.weight.shape) for layer in (step.up, step.mid, step.down)]
        assert shapes == [(inside, 2 * width), (inside, inside), (width, inside)]


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba"])
def test_initial_weights(family, tiny_model):
    """Catches: weights drawn as the model's own layers, which a Mamba draws otherwise."""
    model = tiny_model(family)
    NextLatent(projection_factor=16).attach(model)
    step = auxiliary_modules.modules_of(model)["step"]
    assert {name for name, _ in step.named_parameters()} == {f"{n}.weight" for n in ("norm", "up", "mid", "down")}
    for layer in (step.up, step.mid, step.down):
        assert layer.weight.detach().std().item() == pytest.approx(0.02, rel=0.1)
    assert bool((step.norm.weight == 1).all())
