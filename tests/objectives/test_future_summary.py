"""`future_summary` against a plain loop over rows, by the description of FSP-RevLM (arXiv 2510.14751)."""

import dataclasses

import pytest
import torch
from small_models import with_modules

from nt_failures.hub.load import load
from nt_failures.objectives import FutureBag, FutureSummary, NextToken, auxiliary_modules
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

PAD = 14
ROWS = [
    {"prefix_ids": [1, 2, 3], "target_ids": [7, 8, 9, 5]},
    {"prefix_ids": [4, 6], "target_ids": [8, 3]},
    {"prefix_ids": [2], "target_ids": [9]},
]


def reverse_states(g, ids):
    """States of the right-to-left model behind each of these tokens, in the order in which it reads them."""
    return g.trunk(inputs_embeds=g.embedding(torch.tensor([ids])), use_cache=False).last_hidden_state[0]


def loss_of_a_row(model, row, weight, frozen):
    """The loss by the formula, of one row without padding: its mean per label times its labels."""
    prefix, target = row["prefix_ids"], row["target_ids"]
    modules, ids = auxiliary_modules.modules_of(model), [*prefix, *target]
    output = model(torch.tensor([ids]), output_hidden_states=True)
    log_p, states = output.logits[0].log_softmax(dim=-1), output.hidden_states[-1][0]
    next_token = -sum(log_p[len(prefix) + i - 1, token] for i, token in enumerate(target))
    distances = []
    for t in range(len(target) - 1):  # the state that predicts target[t], and what comes behind it
        summary = reverse_states(modules["reverse"], target[t + 1 :][::-1])[-1].detach()
        a = modules["summary"].weight @ states[len(prefix) + t - 1] + modules["summary"].bias
        distances.append(sum((a - summary) ** 2) / len(a))
    summary = len(target) * sum(distances) / max(len(distances), 1)
    backwards = ids[::-1]
    log_g = modules["reverse"].unembedding(reverse_states(modules["reverse"], backwards)).log_softmax(dim=-1)
    nats = [-log_g[c, token] for c, token in enumerate(backwards[1:])]
    reverse = 0.0 if frozen else len(target) * sum(nats) / len(nats)
    return next_token + weight * summary + reverse


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba"])
@pytest.mark.parametrize("teacher", [None, "before"])
def test_loss_and_gradients_are_those_of_a_plain_loop(teacher, family, tiny_model):
    """Catches: a summary that has read the next token or lacks the one behind it, a model trained through its target, a
    sum over channels, a g that reads padding or, frozen, learns; a mean over the batch in place of rows."""
    exact = (
        {"rtol": 1e-5, "atol": 1e-5} if family == "mamba" else {"rtol": 1e-9, "atol": 1e-9}
    )  # its logits are float32
    objective = FutureSummary(weight=0.3, teacher=teacher, pad_token_id=PAD)
    model = with_modules(objective, tiny_model(family)).double()
    parameters = dict(model.named_parameters())
    loss = objective.loss(model, objective.collate(ROWS))
    found = torch.autograd.grad(loss.sum, parameters.values(), allow_unused=True)
    by_hand = sum(loss_of_a_row(model, row, 0.3, frozen=teacher is not None) for row in ROWS)
    expected = torch.autograd.grad(by_hand, parameters.values(), allow_unused=True)
    torch.testing.assert_close(loss.sum, by_hand, **exact)
    assert int(loss.count) == 7
    assert set(loss.parts) == {"next_token", "summary"} | ({"reverse"} if teacher is None else set())
    for name, one, other in zip(parameters, found, expected, strict=True):
        own = name.startswith("objective_modules.reverse")
        assert (one is None) == (other is None) == (own and teacher is not None), name
        if one is not None:
            torch.testing.assert_close(one, other, **exact, msg=name)


def test_the_order_of_the_answer_is_the_objectives(tiny_model):
    """Catches: an answer in reversed order whose future is its past."""
    objective = FutureSummary(order="reversed", pad_token_id=PAD)
    model = with_modules(objective, tiny_model("gpt2")).double()
    turned = [{**row, "target_ids": row["target_ids"][::-1]} for row in ROWS]
    expected = sum(loss_of_a_row(model, row, 1.0, frozen=False) for row in turned)
    torch.testing.assert_close(objective.loss(model, objective.collate(ROWS)).sum, expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def trainer(tiny_model, tokenized, tokenizer, tmp_path):
    """`trainer(objective, folder)`: four steps of eight rows."""

    def make(objective, folder, family="gpt2"):
        args = ObjectiveTrainingArguments(
            str(tmp_path / folder), max_steps=4, use_cpu=True, learning_rate=1e-2, disable_tqdm=True, report_to=[]
        )
        data = {"train_dataset": tokenized, "processing_class": tokenizer}
        return ObjectiveTrainer(tiny_model(family), args, objective=objective, **data)

    return make


def reverse_of(model):
    return {
        name: tensor.clone() for name, tensor in auxiliary_modules.modules_of(model)["reverse"].state_dict().items()
    }


def test_g_of_an_earlier_run_is_taken_over_and_frozen(trainer, tmp_path):
    """Catches: a second run that draws g anew, trains it, or takes the first one's A; a model that cannot be loaded
    once the first run's folder is gone."""
    first = trainer(FutureSummary(pad_token_id=PAD), "first")
    before = reverse_of(first.model)
    first.train()
    first.save_model()
    trained = reverse_of(first.model)
    assert not torch.equal(before["embedding.weight"], trained["embedding.weight"])
    objective = FutureSummary(teacher=str(tmp_path / "first"), pad_token_id=PAD)
    second = trainer(objective, "second")
    modules, earlier = (auxiliary_modules.modules_of(run.model) for run in (second, first))
    assert not torch.equal(modules["summary"].weight, earlier["summary"].weight)
    second.train()
    second.save_model()
    (tmp_path / "first" / auxiliary_modules.MODULES_FILE).unlink()
    loaded = load(str(tmp_path / "second"))
    assert loaded.objective == dataclasses.replace(objective, teacher="first")  # paths stay on the machine
    for model in (second.model, loaded.model):
        for name, tensor in reverse_of(model).items():
            assert torch.equal(tensor, trained[name]), name


def test_a_folder_that_is_no_teacher(trainer, tmp_path):
    """Catches: a message about files of ours for a slip in a path, or about each weight for another objective's run."""
    trainer(NextToken(pad_token_id=PAD), "plain").save_model()
    trainer(FutureBag(pad_token_id=PAD), "bag").save_model()
    wrong = {
        "nowhere": "teacher: there is no folder",
        **dict.fromkeys(("plain", "bag"), "holds no right-to-left model"),
    }
    for folder, message in wrong.items():
        with pytest.raises(ValueError, match=rf"{message}.*; give the folder of a finished run of future_summary\.$"):
            trainer(FutureSummary(teacher=str(tmp_path / folder), pad_token_id=PAD), "second")


def test_a_teacher_must_fit(trainer, tmp_path):
    """Catches: a g of another kind of model that is taken in part; one that has read answers from the other end."""
    trainer(FutureSummary(pad_token_id=PAD), "llama", "llama").save_model()
    objective = FutureSummary(teacher=str(tmp_path / "llama"), pad_token_id=PAD)
    with pytest.raises(ValueError, match="does not fit, as it is of another objective, or of a model of another"):
        trainer(objective, "gpt2")
    with pytest.raises(ValueError, match=r"has read answers in forward order; give the folder .* with that order"):
        trainer(dataclasses.replace(objective, order="reversed"), "reversed", "llama")
