"""Gradient shares: the figures by hand, when they are logged, and that training is as without them."""

import math

import pytest
import torch

from nt_failures.objectives import BeliefState, LseMtp, NextToken, TokenOrder
from nt_failures.objectives.base import Loss
from nt_failures.training import gradient_shares as measured
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.gradient_shares import gradient_shares
from nt_failures.training.trainer import ObjectiveTrainer


def test_by_hand():
    """Catches: a term without its weight, weights that are not looked at, norms added where vectors are."""
    x, y = (torch.nn.Parameter(torch.tensor([value])) for value in (1.0, 2.0))
    terms = {"next_token": (3 * x + 4 * y).sum(), "a": x.sum(), "b": (y - x).sum(), "unseen": torch.tensor(7.0)}
    loss = Loss(terms["next_token"] + 5 * terms["a"] + 10 * terms["b"], torch.tensor(1), terms)
    shares = gradient_shares(loss, [x, y])
    assert shares.keys() == {"a", "b", "auxiliary"}
    assert float(shares["a"]) == 1.0  # (5, 0) over (3, 4)
    assert float(shares["b"]) == pytest.approx(2 * math.sqrt(2))  # (-10, 10)
    assert float(shares["auxiliary"]) == pytest.approx(math.sqrt(5))  # (-5, 10)


def test_a_term_that_does_not_reach_the_weights():
    """Catches: an error of torch, or a term left out, where a loss trains modules of its own alone."""
    x, y = (torch.nn.Parameter(torch.tensor([value])) for value in (1.0, 2.0))
    terms = {"next_token": x.sum(), "cut": y.sum()}
    assert gradient_shares(Loss(terms["next_token"] + terms["cut"], torch.tensor(1), terms), [x]) == {
        "cut": 0.0,
        "auxiliary": 0.0,
    }


def test_parts_that_the_loss_was_not_computed_from():
    """Catches: a share of 0 for a part that was computed once more for the log, and so is not in the loss's graph."""
    x = torch.nn.Parameter(torch.tensor([1.0]))
    terms = {"next_token": x.sum(), "mine": 3 * x.sum(), "copied": 3 * x.sum()}
    one = torch.tensor(1)
    assert gradient_shares(Loss(terms["next_token"] + terms["mine"], one, terms), [x]) == {"mine": 3, "auxiliary": 3}
    assert gradient_shares(Loss(terms["mine"] + terms["copied"], one, terms), [x]) == {}
    assert gradient_shares(Loss(terms["next_token"] + 3 * x.sum(), one, terms), [x]) == {}


@pytest.mark.parametrize("terms", [{}, {"next_token": 1.0}, {"a": 1.0, "b": 1.0}, {"next_token": 0.0, "a": 1.0}])
def test_nothing_to_compare(terms):
    """Catches: a division by nothing, a share of a loss that has no next token."""
    x = torch.nn.Parameter(torch.tensor([1.0]))
    parts = {name: weight * x.sum() for name, weight in terms.items()}
    assert gradient_shares(Loss(x.sum() + sum(parts.values()), torch.tensor(1), parts), [x]) == {}


def trained(model, objective, rows, folder, **options):
    args = ObjectiveTrainingArguments(
        str(folder),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        learning_rate=1e-2,
        **{"max_steps": 3, **options},
    )
    trainer = ObjectiveTrainer(model, args, objective=objective, train_dataset=rows)
    trainer.train()
    return trainer


def logged(trainer):
    return [(entry["step"], set(entry)) for entry in trainer.state.log_history if any("grad/" in k for k in entry)]


@pytest.mark.parametrize("kind", [BeliefState, LseMtp, TokenOrder])
def test_logged_at_the_start_after_a_hundred_steps_and_at_the_end(kind, tiny_model, tokenized, tmp_path, monkeypatch):
    """Catches: an objective whose terms lost their gradient, a step that is measured twice or never."""
    assert measured.STEPS == (0, 100)
    monkeypatch.setattr(measured, "STEPS", (0, 2))
    trainer = trained(tiny_model("gpt2"), kind(pad_token_id=14), tokenized, tmp_path, max_steps=4)
    found = logged(trainer)
    assert [step for step, _ in found] == [0, 2, 4]
    assert all("grad/auxiliary" in names and "grad/next_token" not in names for _, names in found)
    assert all(entry["grad/auxiliary"] > 0 for entry in trainer.state.log_history if "grad/auxiliary" in entry)


def test_accumulated_steps_are_measured_once(tiny_model, tokenized, tmp_path):
    """Catches: one entry for each batch of an accumulated step."""
    options = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    found = logged(trained(tiny_model("gpt2"), TokenOrder(pad_token_id=14), tokenized, tmp_path, **options))
    assert [step for step, _ in found] == [0, 3]


@pytest.mark.parametrize("options", [{}, {"activation_checkpointing": True}, {"bf16": True}])
def test_the_share_is_that_of_the_loss(options, tiny_model, tokenized, tmp_path):
    """Catches: another loss than the one trained on; checkpointing that frees what a second gradient needs."""
    trainer = trained(tiny_model("gpt2"), TokenOrder(pad_token_id=14, weight=3.0), tokenized, tmp_path, **options)
    fresh = tiny_model("gpt2")
    objective = TokenOrder(pad_token_id=14, weight=3.0)
    objective.attach(fresh)
    fresh.load_state_dict(trainer.model.state_dict())
    batch = trainer.gradient_shares._inputs
    block = list(fresh.transformer.h[0].parameters())
    parts = objective.loss(fresh, batch).parts
    norms = {}
    for name, part in parts.items():
        grads = torch.autograd.grad(part, block, retain_graph=True)
        norms[name] = torch.cat([grad.flatten() for grad in grads]).norm()
    expected = float(3.0 * norms["order"] / norms["next_token"])
    rounding = 0.05 if "bf16" in options else 1e-4
    assert trainer.state.log_history[-1]["grad/order"] == pytest.approx(expected, rel=rounding)


def test_training_is_as_without(tiny_model, tokenized, tmp_path, monkeypatch):
    """Catches: random numbers of dropout that measuring uses up, gradients that it leaves behind."""

    def model():
        made = tiny_model("gpt2")
        made.transformer.drop.p = 0.5
        return made

    with_shares = trained(model(), TokenOrder(pad_token_id=14), tokenized, tmp_path / "a")
    monkeypatch.setattr("nt_failures.training.gradient_shares.GradientShares._log", lambda self: None)
    without = trained(model(), TokenOrder(pad_token_id=14), tokenized, tmp_path / "b")
    assert logged(with_shares)
    assert not logged(without)
    for a, b in zip(with_shares.model.parameters(), without.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_objective_of_one_term_logs_none(tiny_model, tokenized, tmp_path):
    """Catches: a share of nothing."""
    assert not logged(trained(tiny_model("gpt2"), NextToken(pad_token_id=14), tokenized, tmp_path))
