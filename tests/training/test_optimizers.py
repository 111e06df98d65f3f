"""Muon beside AdamW: which weight goes where, and that decay, schedules and checkpoints reach both."""

import pytest
import torch
from torch import nn

from nt_failures.objectives import NextToken
from nt_failures.training import optimizers
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.optimizers import MuonAdamW, StackedMuon, matrix_parameters
from nt_failures.training.trainer import ObjectiveTrainer

MATRICES = {
    "gpt2": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
    "gpt_neox": {
        "attention.query_key_value",
        "attention.dense",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
    },
    "llama": {
        *(f"self_attn.{name}_proj" for name in "qkvo"),
        *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    },
    "mamba": {"mixer.in_proj", "mixer.x_proj", "mixer.dt_proj", "mixer.out_proj"},
    "mamba2": {"mixer.in_proj", "mixer.out_proj"},
}
"""The linear layers of a block. Not among them: embeddings, heads, norms, biases, A_log, D, dt_bias, convolutions."""


def optimizer(model, **options):
    return MuonAdamW(model, **{"lr": 0.01, "muon_lr": 0.02, **options})


def set_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("family", MATRICES)
def test_muon_gets_the_linear_weights_of_the_blocks(tiny_model, family):
    """Catches: an embedding, an untied head, Mamba's state matrix or convolution under Muon; a linear layer missed."""
    model = tiny_model(family)
    names = {parameter: name for name, parameter in model.named_parameters()}
    chosen = {names[p] for group in optimizer(model).muon.param_groups for p in group["params"]}
    assert {".".join(name.split(".")[-3:-1]) for name in chosen} == MATRICES[family]
    assert len(chosen) == len(MATRICES[family])  # one layer, and no biases


@pytest.mark.parametrize("family", MATRICES)
def test_each_trainable_weight_is_in_one_group(tiny_model, family):
    """Catches: a weight that is stepped twice or never; a frozen one that is stepped."""
    model = tiny_model(family)
    frozen, matrix = next(p for p in model.parameters() if p.ndim == 1), next(iter(matrix_parameters(model)))
    frozen.requires_grad = matrix.requires_grad = False
    listed = [id(p) for group in optimizer(model).param_groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p is not frozen and p is not matrix)


def test_steps_are_those_of_torch(tiny_model):
    """Catches: a learning rate, a beta or a parameter given to the other optimizer."""
    ours, theirs = tiny_model("llama", "2x16"), tiny_model("llama", "2x16")
    mine = optimizer(ours, betas=(0.8, 0.9), eps=1e-6)
    matrices = matrix_parameters(theirs)
    others = [p for p in theirs.parameters() if p not in matrices]
    muon = torch.optim.Muon([p for p in theirs.parameters() if p in matrices], lr=0.02, weight_decay=0.0)
    adamw = torch.optim.AdamW(others, lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.0, fused=True)
    for seed in range(3):
        for model in (ours, theirs):
            set_gradients(model, seed)
        for it in (mine, muon, adamw):
            it.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=0)


def test_a_layer_steps_alike_however_it_is_stored(tiny_model):
    """Catches: the shape factor of GPT-2's weights, (in, out), by their rows, as if these were the outputs."""
    model = tiny_model("gpt2", "2x16")
    set_gradients(model, 0)
    stored = list(matrix_parameters(model))
    linear = [nn.Parameter(matrix.detach().mT.clone()) for matrix in stored]
    for ours, theirs in zip(stored, linear, strict=True):
        theirs.grad = ours.grad.mT.clone()
    optimizer(model).step()
    torch.optim.Muon(linear, lr=0.02, weight_decay=0.0).step()
    torch.testing.assert_close(stored, [matrix.mT for matrix in linear], rtol=0, atol=1e-3)  # bfloat16 inside


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.3, "momentum": 0.5, "nesterov": False, "ns_steps": 3}])
def test_stacked_matrices_step_as_torch_steps_each(options):
    """Catches: norms over a whole stack, a transposition lost, another order of the stack, the wrong shape's rate."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 24), (24, 8), (8, 24), (16, 16), (24, 8), (8, 24)]
    ours, theirs = ([nn.Parameter(torch.full(shape, 1.0)) for shape in shapes] for _ in range(2))
    mine, torchs = StackedMuon(ours, lr=0.1, **options), torch.optim.Muon(theirs, lr=0.1, **options)
    for step in range(3):
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(a.shape, generator=generator) * 10.0 ** (number - 3)
            a.grad, b.grad = (None, None) if (step, number) == (1, 2) else (gradient, gradient.clone())
        mine.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_matrices_of_one_shape_are_stepped_together(tiny_model, monkeypatch):
    """Catches: one small product after the other, for which a GPU waits."""
    model, stacks = tiny_model("gpt2", "3x16"), []
    plain = optimizers.orthogonalised
    monkeypatch.setattr(optimizers, "orthogonalised", lambda m, *args: stacks.append(m.shape) or plain(m, *args))
    set_gradients(model, 0)
    optimizer(model).step()
    assert sorted(stacks) == [(3, 16, 16), (3, 16, 48), (3, 16, 64), (3, 64, 16)]


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weight_decay_reaches_both(tiny_model, decay):
    """Catches: torch's default of 0.1 for Muon left on, and biases or norms that decay. Gradients are zero."""
    model = tiny_model("gpt2")
    before, matrices = weights(model), {id(p) for p in matrix_parameters(model)}
    it = optimizer(model, weight_decay=decay)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    it.step()
    for name, parameter in model.named_parameters():
        rate = 0.02 if id(parameter) in matrices else 0.01 * (parameter.ndim > 1)
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - rate * decay), rtol=1e-6, atol=0)


def test_state_survives_saving(tiny_model, tmp_path):
    """Catches: momenta of one of the two lost, or groups cut off from a schedule by loading."""
    model = tiny_model("gpt2")
    first = optimizer(model)
    for seed in range(2):
        set_gradients(model, seed)
        first.step()
    torch.save({"model": model.state_dict(), "optimizer": first.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    other = tiny_model("gpt2")
    other.load_state_dict(saved["model"])
    second = optimizer(other, lr=9.0, muon_lr=9.0)
    second.load_state_dict(saved["optimizer"])
    for it, stepped in ((first, model), (second, other)):
        set_gradients(stepped, 2)
        for group in it.param_groups:
            group["lr"] /= 2  # as a schedule does
        it.step()
    torch.testing.assert_close(weights(other), weights(model), rtol=0, atol=0)
    assert [group["lr"] for group in second.param_groups] == [0.005, 0.005, 0.01]


def test_a_schedule_scales_both(tiny_model, tmp_path, tokenized, monkeypatch):
    """Catches: a Muon that stays at its first learning rate; arguments of the Trainer that reach one of the two."""
    args = ObjectiveTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        optimizer="muon",
        learning_rate=0.1,
        muon_learning_rate=0.4,
        adam_beta2=0.9,
        adam_epsilon=1e-5,
        weight_decay=0.25,
        lr_scheduler_type="linear",
        max_steps=4,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = ObjectiveTrainer(tiny_model("gpt2"), args, objective=NextToken(pad_token_id=14), train_dataset=tokenized)
    rates = []

    class Watched(MuonAdamW):
        def step(self, closure=None):
            rates.extend(group["lr"] for group in self.param_groups)
            return super().step(closure)

    monkeypatch.setattr("nt_failures.training.trainer.MuonAdamW", Watched)
    trainer.train()
    assert rates == pytest.approx([rate * share for share in (1, 0.75, 0.5, 0.25) for rate in (0.1, 0.1, 0.4)])
    groups = trainer.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0, 0.25]
    assert (groups[0]["betas"], groups[0]["eps"]) == ((0.9, 0.9), 1e-5)


def test_closures_run_once_with_gradients(tiny_model):
    """Catches: a closure that is ignored, run by each of the two, or run without gradients."""
    model = tiny_model("gpt2")
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        loss = model(input_ids=torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]])).loss
        loss.backward()
        return loss

    assert optimizer(model).step(closure).item() > 0
    assert calls == [True]


class Lookup(nn.Module):
    """A model without linear layers."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 4)

    def get_output_embeddings(self):
        return None


def test_a_model_without_matrices_is_told_what_to_use():
    """Catches: torch's error about an empty parameter list."""
    with pytest.raises(ValueError, match="optimizer='adamw'"):
        optimizer(Lookup())


def test_unknown_optimizer(tmp_path):
    """Catches: a typo that trains with AdamW."""
    with pytest.raises(ValueError, match=r"optimizer='moun' is not a choice.*muon"):
        ObjectiveTrainingArguments(output_dir=str(tmp_path), optimizer="moun")
