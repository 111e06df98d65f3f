"""Modules of an objective inside a model: saved beside a stock checkpoint, brought back, resumed, logged."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nt_failures.hub.load import load
from nt_failures.objectives import (
    BeliefState,
    JointMultiToken,
    MultiTokenHeads,
    NextToken,
    SequentialHeads,
    TokenOrder,
    auxiliary_modules,
)
from nt_failures.objectives.losses import forward_pass, row_mean_sum, unembed
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.optimizers import matrix_parameters
from nt_failures.training.trainer import ObjectiveTrainer

KINDS = {
    "multi_token_heads": lambda: MultiTokenHeads(heads=2, pad_token_id=14),
    "sequential_heads": lambda: SequentialHeads(depths=2, pad_token_id=14),
    "belief_state": lambda: BeliefState(pad_token_id=14),
    "token_order": lambda: TokenOrder(pad_token_id=14),
}
by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def trainer(tiny_model, tokenizer, task, tokenized, tmp_path):
    """`trainer(objective, **arguments)`: 8 rows a step, four steps, SGD."""

    def make(objective, folder="run", **options):
        torch.manual_seed(4)
        defaults = {
            "use_cpu": True,
            "optim": "sgd",
            "learning_rate": 0.05,
            "max_steps": 4,
            "per_device_train_batch_size": 8,
            "logging_steps": 2,
            "save_strategy": "no",
            "disable_tqdm": True,
            "report_to": [],
        }
        args = ObjectiveTrainingArguments(str(tmp_path / folder), **{**defaults, **options})
        return ObjectiveTrainer(
            tiny_model("gpt2"),
            args,
            objective=objective,
            task=task,
            train_dataset=tokenized,
            eval_dataset=tokenized.select(range(8)),
            processing_class=tokenizer,
        )

    return make


@by_kind
def test_a_saved_run_is_a_stock_checkpoint_and_comes_back_whole(kind, trainer, examples, tmp_path):
    """Catches: heads in the stock file, heads that come back new, a loss that differs after loading."""
    made = trainer(KINDS[kind]())
    made.train()
    made.save_model()
    folder = tmp_path / "run"
    stock, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert {*report["unexpected_keys"], *report["missing_keys"]} == set()
    assert not auxiliary_modules.has_modules(stock)
    loaded = load(str(folder))
    own = {name: tensor for name, tensor in made.model.state_dict().items() if name.startswith(auxiliary_modules.NAME)}
    assert {f"{auxiliary_modules.NAME}.{name}" for name in load_file(folder / auxiliary_modules.MODULES_FILE)} == set(
        own
    )
    assert all(torch.equal(loaded.model.state_dict()[name], tensor) for name, tensor in own.items())
    batch = loaded.objective.collate(examples[:8])
    made.model.eval()
    assert torch.equal(loaded.objective.loss(loaded.model, batch).sum, loaded.objective.loss(made.model, batch).sum)


def test_missing_and_foreign_modules_are_named(trainer, tmp_path):
    """Catches: new heads in place of trained ones, in silence."""
    made = trainer(KINDS["belief_state"]())
    made.save_model()
    file = tmp_path / "run" / auxiliary_modules.MODULES_FILE
    file.rename(file.with_suffix(".gone"))
    with pytest.raises(ValueError, match=r"objective_modules\.safetensors is missing: the weights of the objective"):
        load(str(tmp_path / "run"))
    with torch.no_grad():
        trainer(KINDS["token_order"](), folder="other").save_model()
    (tmp_path / "other" / auxiliary_modules.MODULES_FILE).rename(file)
    with pytest.raises(ValueError, match=r"objective_modules\.safetensors: not as saved"):
        load(str(tmp_path / "run"))
    with pytest.raises(ValueError, match="does not fit, as it is of another objective"):
        auxiliary_modules.load(made.model, file)


@by_kind
def test_resuming_equals_never_stopping(kind, trainer, tmp_path):
    """Catches: heads that start anew behind a checkpoint."""
    whole = trainer(KINDS[kind](), folder="whole", save_strategy="steps", save_steps=2)
    whole.train()
    again = trainer(KINDS[kind](), folder="again")
    with torch.no_grad():
        for parameter in again.model.parameters():
            parameter.add_(1.0)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_the_best_model_has_its_own_modules(trainer):
    """Catches: the best checkpoint's trunk under the last step's heads."""
    made = trainer(
        KINDS["belief_state"](),
        learning_rate=1e3,  # training only ever gets worse
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
    )
    made.train()
    best = load_file(f"{made.state.best_model_checkpoint}/{auxiliary_modules.MODULES_FILE}")
    assert made.state.best_global_step < 4
    for name, tensor in best.items():
        assert torch.equal(made.model.state_dict()[f"{auxiliary_modules.NAME}.{name}"], tensor), name


def test_parts_of_the_loss_are_logged_per_label(trainer, tmp_path):
    """Catches: parts summed over the steps of a log, micro-batches counted twice, evaluations counted with training."""
    made = trainer(
        KINDS["multi_token_heads"](),
        learning_rate=0.0,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        logging_steps=4,
    )
    made.train()
    (entry,) = [entry for entry in made.state.log_history if "loss" in entry]
    loss = made.training_objective.loss(
        made.model.eval(), made.training_objective.collate(made.train_dataset.to_list())
    )
    for name in ("next_token", "head_2"):  # four steps of eight are all 32 rows once, and nothing was learnt
        assert entry[f"loss/{name}"] == pytest.approx(float(loss.parts[name] / loss.count), rel=1e-4)
    assert entry["loss"] == pytest.approx(entry["loss/next_token"] + entry["loss/head_2"], abs=1e-3)


def test_an_objective_without_parts_logs_none(trainer):
    """Catches: empty names in every log."""
    made = trainer(NextToken(pad_token_id=14))
    made.train()
    assert not any(name.startswith("loss/") for entry in made.state.log_history for name in entry)


def test_two_objectives_do_not_share_a_model(tiny_model):
    """Catches: heads of an earlier objective trained, saved and pushed along."""
    model = tiny_model("gpt2")
    TokenOrder().attach(model)
    with pytest.raises(ValueError, match="has the modules of an objective in it already; give the objective"):
        JointMultiToken().attach(model)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "mamba", "mamba2"])
def test_states_are_what_the_unembedding_reads(family, tiny_model, examples):
    """Catches: hidden states from before the final norm, in any family; an encoder that does not take states."""
    model = tiny_model(family, spread=0.3)
    seen = forward_pass(model, NextToken(pad_token_id=14).collate(examples[:4]))
    logits = unembed(model, seen.states_BSD[:, seen.first - 1 :])
    torch.testing.assert_close(logits, seen.logits_BTV, rtol=1e-4, atol=1e-4)
    torch.manual_seed(0)
    encoder = auxiliary_modules.encoder_like(model, layers=2)
    found = encoder(inputs_embeds=seen.states_BSD, use_cache=False).last_hidden_state
    assert found.shape == seen.states_BSD.shape
    assert encoder.config.num_hidden_layers == 2
    assert model.config.num_hidden_layers == 1  # not changed along


def test_muon_leaves_heads_to_the_vocabulary_to_adamw(tiny_model):
    """Catches: an orthogonalised step on an unembedding."""
    model = tiny_model("gpt2")
    TokenOrder().attach(model)
    head = auxiliary_modules.modules_of(model)["order"].weight
    assert not any(p is head for p in matrix_parameters(model))
    heads = tiny_model("gpt2")
    MultiTokenHeads(heads=2).attach(heads)
    inside = {id(p) for p in auxiliary_modules.modules_of(heads).parameters() if p.ndim == 2}
    assert any(id(p) in inside for p in matrix_parameters(heads))


def test_weighed_means_by_hand():
    """Catches: a mean over the whole batch, which a row's neighbours would change."""
    values = torch.tensor([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    counted = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    labels = torch.tensor([[5, 5, 5], [5, 5, -100], [5, -100, -100]])
    assert float(row_mean_sum(values, counted, labels)) == 3 * 1.5 + 2 * 4.0 + 1 * 0.0
    assert float(row_mean_sum(values * torch.inf, torch.zeros_like(counted), labels)) == 0
