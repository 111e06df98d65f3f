"""torch.compile: a model is compiled twice at most, for whole batches and for any other, and trains as without it."""

import pytest
import torch

from nt_failures.objectives import (
    Insertion,
    JointMultiToken,
    LseMtp,
    MaskedDiffusion,
    MultiTokenHeads,
    Ritf,
    Semformer,
    SequentialHeads,
    UniformMask,
)
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer


@pytest.fixture
def train(tiny_model, tokenized, tmp_path):
    """`train(objective, **options)`: two epochs of seven batches, the last with two rows for five; the losses."""

    def run(objective, **options):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        args = ObjectiveTrainingArguments(
            str(tmp_path),
            use_cpu=True,
            num_train_epochs=2,
            per_device_train_batch_size=5,
            per_device_eval_batch_size=8,
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            **options,
        )
        data = {"train_dataset": tokenized.select(range(17)), "eval_dataset": tokenized.select(range(11))}
        trainer = ObjectiveTrainer(tiny_model("gpt2"), args, objective=objective, **data)
        trainer.train()
        log = trainer.state.log_history
        return [entry[name] for entry in log for name in ("loss", "eval_loss") if name in entry]

    yield run
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "objective",
    [
        MultiTokenHeads(heads=2, pad_token_id=14),
        SequentialHeads(depths=2, pad_token_id=14),
        JointMultiToken(pad_token_id=14),
        LseMtp(pad_token_id=14),
        MaskedDiffusion(dummy_token_id=13, pad_token_id=14),
        Ritf(pad_token_id=14, separators=(10, 11, 12)),
        Semformer(pad_token_id=14),
        UniformMask(dummy_token_id=13, pad_token_id=14),
        Insertion(pad_token_id=14),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_two_graphs_without_a_break(objective, train):
    """Catches: a compilation for every batch size or for the columns that are hidden, a model that falls apart into
    graphs, losses unlike eager mode's."""
    expected = train(objective)
    losses = train(objective, torch_compile=True, torch_compile_backend="eager")
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
    assert losses == pytest.approx(expected, rel=1e-5)
