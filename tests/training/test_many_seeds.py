"""Many seeds at once: every seed must get what its Trainer gives it alone."""

import pytest
import torch
from small_models import SMALL
from transformers import TrainerCallback, set_seed

import nt_failures as ntf
from nt_failures.data.token_dataset import TokenDataset
from nt_failures.models.load import load_model
from nt_failures.objectives import OBJECTIVES, find_objective
from nt_failures.training.many_seeds import Stack, train_together
from nt_failures.training.optimizers import StackedMuon

SEEDS = (0, 1, 2)


@pytest.fixture
def make(tokenized, tokenizer_for, task, tmp_path):
    """`make(seed, objective, ...)`: a Trainer as examples/train.py builds it: 5 steps of 8 rows, 3 an epoch."""

    def make(seed, objective="next_token", family="gpt2", dtype=torch.float32, overrides=None, **arguments):
        cls = find_objective(objective)
        tokenizer = tokenizer_for(cls)
        set_seed(seed)
        model = load_model(f"{family}-1x16", tokenizer, 40, SMALL[family] | (overrides or {})).to(dtype)
        settings = {"max_steps": 5, "eval_steps": 2, "logging_steps": 2, "learning_rate": 1e-2, "save_strategy": "no"}
        # The gradient of a key's bias is zero but for rounding, which Adam would divide by itself.
        settings |= {
            "adam_epsilon": 1e-3,
            "eval_strategy": "steps",
            "per_device_train_batch_size": 8,
            "disable_tqdm": True,
            "use_cpu": True,
        }
        args = ntf.ObjectiveTrainingArguments(str(tmp_path / str(seed)), seed=seed, **(settings | arguments))
        return ntf.ObjectiveTrainer(
            model,
            args,
            objective=cls.from_tokenizer(tokenizer),
            task=task,
            train_dataset=TokenDataset.of(tokenized.select(range(24))),
            eval_dataset=tokenized.select(range(24, 32)),
            processing_class=tokenizer,
        )

    return make


def trained_alone(trainer):
    trainer.train()
    return trainer


def history(trainer):
    """The log, without times, and without what the evaluation's own draws or the Trainer alone adds to it."""
    skip = ("runtime", "per_second", "preparation", "train_loss", "total_flos", "grad_norm", "eval_loss")
    kept = [{k: v for k, v in entry.items() if not any(s in k for s in skip)} for entry in trainer.state.log_history]
    return [entry for entry in kept if set(entry) - {"step", "epoch"}]


def assert_same(together, alone, tolerance):
    for (name, found), expected in zip(together.model.named_parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}")
    found, expected = history(together), history(alone)
    assert [set(entry) for entry in found] == [set(entry) for entry in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)
    assert together.state.total_flos == alone.state.total_flos
    assert together.state.global_step == alone.state.global_step


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"objective": "next_token"}, 1e-6),
        ({"objective": "next_token", "max_grad_norm": 0.0, "weight_decay": 0.1, "lr_scheduler_type": "cosine"}, 1e-6),
        ({"objective": "teacherless", "family": "mamba", "dtype": torch.float64}, 1e-14),
        ({"objective": "hybrid", "dtype": torch.float64, "optimizer": "muon", "weight_decay": 0.1}, 1e-14),
        ({"objective": "multi_token_heads", "dtype": torch.float64, "max_grad_norm": 0.5}, 1e-14),
        ({"objective": "sequential_heads", "dtype": torch.float64}, 1e-14),
        ({"objective": "registers", "dtype": torch.float64, "max_steps": -1, "num_train_epochs": 2}, 1e-14),
        ({"objective": "masked_diffusion", "dtype": torch.float64}, 1e-14),
        ({"objective": "insertion", "dtype": torch.float64}, 1e-14),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_each_seed_gets_what_it_has_alone(options, tolerance, make):
    """Three seeds over two epochs, with evaluations.

    Catches: rows in another seed's order, draws of a collator shared by all, a loss divided by all seeds' labels,
    gradients clipped by a common norm, a learning rate schedule stepped three times, Muon over all seeds' matrices as
    one.
    """
    alone = [trained_alone(make(seed, **options)) for seed in SEEDS]
    together = [make(seed, **options) for seed in SEEDS]
    assert train_together(together) == [None] * 3
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other, tolerance)
    weights = [trainer.model.get_input_embeddings().weight for trainer in together]
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


@pytest.mark.parametrize("first", [0, 1])
def test_a_seed_that_diverges_spoils_no_other(first, make):
    """Catches: a NaN that reaches the other seeds, a study lost to one seed, a divergence that nobody hears of."""
    alone = [trained_alone(make(seed)) for seed in SEEDS]
    together = [make(seed) for seed in SEEDS]
    with torch.no_grad():
        together[first].model.get_input_embeddings().weight[3] = torch.nan
    errors = train_together(together)
    assert [type(error) for error in errors].count(FloatingPointError) == 1
    assert "the loss became NaN or infinite at step 1, at learning rate 0.01" in str(errors[first])
    assert together[first].state.log_history == []
    for i in {*SEEDS} - {first}:
        assert_same(together[i], alone[i], 1e-6)


class Break(TrainerCallback):
    def on_step_end(self, args, state, control, model, **kwargs):
        if state.global_step == state.max_steps:
            torch.nn.init.constant_(model.get_input_embeddings().weight, torch.nan)


def test_weights_that_end_as_nan_are_no_result(make):
    """Catches: a last step that breaks a model after its last loss was seen."""
    trainers = [make(seed, max_steps=2, eval_strategy="no") for seed in (0, 1)]
    trainers[1].add_callback(Break())
    whole, error = train_together(trainers)
    assert whole is None
    assert "a weight became NaN or infinite at step 2" in str(error)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def test_a_seed_that_stops_early_stays_as_it_is(make):
    """Catches: a seed that a callback stopped and that is trained on with the others, or stops them."""
    alone, together = [], [make(seed) for seed in SEEDS]
    together[0].add_callback(StopAt(3))
    for seed in SEEDS:
        alone.append(make(seed))
        if seed == 0:
            alone[0].add_callback(StopAt(3))
        alone[-1].train()
    assert train_together(together) == [None] * 3
    assert [trainer.state.global_step for trainer in together] == [3, 5, 5]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(dict(one.model.named_parameters()), dict(other.model.named_parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"overrides": {"resid_pdrop": 0.1}},
            r"NextToken and GPT2LMHeadModel cannot be trained for many seeds at once \(vmap: called random operation",
        ),
        ({"save_strategy": "steps"}, "save_strategy='steps': seeds that are trained at once keep no checkpoints"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps=2 is not made for many seeds at once"),
        ({"eval_strategy": "epoch"}, "eval_strategy='epoch' is not made for many seeds at once; leave it out"),
        ({"logging_strategy": "epoch"}, "logging_strategy='epoch' is not made for many seeds at once"),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau"},
            "lr_scheduler_type='reduce_lr_on_plateau' is not made for many seeds at once",
        ),
        ({"bf16": True}, "bf16=True is not made for many seeds at once"),
    ],
)
def test_what_cannot_be_trained_at_once_is_named(options, message, make):
    """Catches: a setting that is dropped silently; a message from the depths of torch that names neither part."""
    trainers = [make(seed, **options) for seed in (0, 1)]
    with pytest.raises(ValueError, match=message):
        train_together(trainers)


def test_seeds_must_be_of_one_recipe(make):
    """Catches: two learning rates of which one is used for both; models of two sizes under one name."""
    with pytest.raises(ValueError, match="differ in their seed alone; these differ in learning_rate"):
        train_together([make(0), make(1, learning_rate=5e-3)])
    with pytest.raises(ValueError, match="differ in their seed alone; these differ in objective"):
        train_together([make(0), make(1, "teacherless")])
    models = [make(0).model, make(0, overrides={"n_inner": 8}).model]
    with pytest.raises(ValueError, match="2 models of different shapes cannot be stacked"):
        Stack(models, None)
    with pytest.raises(ValueError, match="no trainers were given"):
        train_together([])


COVERED = [(objective, "gpt2") for objective in OBJECTIVES]
COVERED += [("next_token", family) for family in SMALL if family != "gpt2"]


@pytest.mark.parametrize(("objective", "family"), COVERED)
def test_every_objective_and_family_has_its_losses_and_gradients(objective, family, make, examples):
    """Catches: an objective or a model that reads a number from a tensor in its loss, which no stack can."""
    trainers = [make(seed, objective, family, dtype=torch.float64) for seed in SEEDS]
    trained = trainers[0].training_objective
    batches = [trained.collate(examples[start : start + 6]) for start in (0, 6, 12)]
    alone = torch.stack([trained.loss(t.model, batch).sum for t, batch in zip(trainers, batches, strict=True)])
    alone.sum().backward()
    expected = [{name: p.grad for name, p in trainer.model.named_parameters()} for trainer in trainers]
    stack = Stack([trainer.model for trainer in trainers], trained)
    found = stack.losses(batches).sum
    found.sum().backward()
    torch.testing.assert_close(found, alone, rtol=1e-6, atol=0)
    for name, weights in stack.weights.items():
        for k, grads in enumerate(expected):
            if grads[name] is not None:
                torch.testing.assert_close(weights.grad[k], grads[name], rtol=1e-5, atol=1e-6)


def test_batches_of_several_widths_stay_with_their_seeds(make, examples):
    """Seeds 0 and 2 get batches of 4 rows, seed 1 of 6, as where an objective draws the width of a batch.

    Catches: losses in the order of the groups, gradients that reach another seed.
    """
    trainers = [make(seed, "token_order", dtype=torch.float64) for seed in SEEDS]
    objective = trainers[0].training_objective
    batches = [objective.collate(examples[rows]) for rows in (slice(0, 4), slice(4, 10), slice(10, 14))]
    alone = [objective.loss(trainer.model, batch) for trainer, batch in zip(trainers, batches, strict=True)]
    for loss in alone:
        loss.sum.backward()
    name = "transformer.wte.weight"
    expected = torch.stack([trainer.model.get_parameter(name).grad for trainer in trainers])
    stack = Stack([trainer.model for trainer in trainers], objective)
    found = stack.losses(batches)
    found.sum.sum().backward()
    torch.testing.assert_close(stack.weights[name].grad, expected)
    torch.testing.assert_close(found.sum, torch.stack([loss.sum for loss in alone]))
    assert found.count.tolist() == [12, 18, 12]
    for part in ("next_token", "order"):
        torch.testing.assert_close(found.parts[part], torch.stack([loss.parts[part] for loss in alone]))


def test_muon_on_a_stack_is_muon_on_each():
    """Catches: matrices orthogonalised across seeds or with the wrong side, a scale or momentum that is not torch's."""
    torch.manual_seed(0)
    shapes = [(8, 8), (8, 24), (24, 8), (8, 8)]
    stacks = [torch.randn(3, *shape, requires_grad=True) for shape in shapes]
    singles = [[stack[k].detach().clone().requires_grad_() for stack in stacks] for k in range(3)]
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}
    alone = [torch.optim.Muon(parameters, **settings) for parameters in singles]
    together = StackedMuon(singles[0], **settings)
    together.param_groups[0]["params"] = stacks
    for _ in range(3):
        for stack, *own in zip(stacks, *singles, strict=True):
            stack.grad = torch.randn_like(stack)
            for k, parameter in enumerate(own):
                parameter.grad = stack.grad[k].clone()
        for optimizer in (*alone, together):
            optimizer.step()
    for stack, *own in zip(stacks, *singles, strict=True):
        torch.testing.assert_close(stack, torch.stack(own), rtol=0, atol=1e-4)  # bfloat16 inside
