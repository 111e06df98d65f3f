"""The collators alone, under a stock `transformers.Trainer` that knows nothing of this library."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.objectives import NextToken, Teacherless
from nt_failures.objectives.collators import NextTokenCollator, TeacherlessCollator

PAIRS = [(NextTokenCollator, NextToken), (TeacherlessCollator, Teacherless)]
both = pytest.mark.parametrize(("collator", "objective"), PAIRS)
by_order = pytest.mark.parametrize("order", ["forward", "reversed"])
by_family = pytest.mark.parametrize("family", ["gpt2", "mamba"])


@both
@by_order
def test_collators_are_their_objectives(collator, objective, order, tokenizer, ragged):
    """Catches: tensors made at a second place that drift apart, an order or a padding id that is not passed on."""
    made = collator(tokenizer, order=order)(ragged)
    expected = objective(order=order, dummy_token_id=13, pad_token_id=14).collate(ragged)
    assert list(made) == list(expected) == ["input_ids", "attention_mask", "labels", "position_ids"]
    assert all(torch.equal(made[name], expected[name]) for name in made)


@both
@by_order
@by_family
def test_stock_loss_is_the_objectives(collator, objective, order, family, tokenizer, tiny_model, ragged):
    """Catches: labels shifted twice or not at all, a batch that a stock model understands otherwise."""
    model = tiny_model(family, spread=0.5)
    batch = collator(tokenizer, order=order)(ragged)
    loss = objective.from_tokenizer(tokenizer, order=order).loss(model, batch)
    torch.testing.assert_close(model(**batch).loss, loss.sum / loss.count, rtol=1e-5, atol=1e-5)


@both
@by_family
def test_stock_trainer(collator, objective, family, tokenizer, tiny_model, ragged, tmp_path):
    """Catches: columns or keys that only our own Trainer accepts, gradients of another loss than the objective's."""
    model, twin = tiny_model(family), tiny_model(family)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        remove_unused_columns=False,
        max_steps=3,
        per_device_train_batch_size=len(ragged),
        learning_rate=0.01,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=ragged, data_collator=collator(tokenizer))
    assert trainer.train().global_step == 3
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    same = objective.from_tokenizer(tokenizer)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.0)
    by_hand = []
    for _ in range(3):
        loss = same.loss(twin, same.collate(ragged))
        mean = loss.sum / loss.count
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        by_hand.append(mean.item())
    assert logged == pytest.approx(by_hand, abs=1e-3)
    assert logged[2] < logged[0]


def test_unknown_options(tokenizer, task):
    """Catches: a dummy that the tokenizer lacks read as token 0, an order that is dropped in silence."""
    with pytest.raises(ValueError, match="order='down' is not a choice"):
        NextTokenCollator(tokenizer, order="down")

    class NoDummy(type(task)):
        symbols = property(lambda self: super().symbols[:-1])

    with pytest.raises(ValueError, match=r"no single token for '\$'; call nt_failures.add_tokens"):
        TeacherlessCollator(word_level_tokenizer(NoDummy(2, 3, 10)))
