"""TRL on our rows: SFTTrainer with its own and with our collator, GRPOTrainer with our rewards."""

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

import nt_failures as ntf
from nt_failures.evaluation.rewards import reward_exact_path, reward_valid_prefix

# In deg2-path3-nodes10 a label is its own id; | 10, = 11, / 12, $ 13, [PAD], the end token, 14.
HAND = {"prompt": "8,2|8,5|2,9|5,0/8,0=", "completion": "8,5,0"}
PREFIX = [8, 2, 10, 8, 5, 10, 2, 9, 10, 5, 0, 12, 8, 0, 11]


@pytest.fixture
def sft(tiny_model, tokenizer, tmp_path):
    """`sft(dataset, collator=None, **settings)`: an SFTTrainer on a small GPT-2 whose answers differ from row to
    row."""

    def make(dataset, collator=None, **settings):
        args = SFTConfig(
            str(tmp_path),
            per_device_train_batch_size=8,
            learning_rate=1e-2,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            **settings,
        )
        model = tiny_model("gpt2", "2x16", spread=0.3)
        return SFTTrainer(model, args, train_dataset=dataset, processing_class=tokenizer, data_collator=collator)

    return make


def loss_of(trainer, rows):
    """The trainer's loss on these rows of its own, prepared data."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in rows])
    trainer.model.eval()
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, dict(batch)).item()


def mean_loss(objective, model, examples):
    """The objective's loss in nats per labelled token."""
    model.eval()
    with torch.no_grad():
        loss = objective.loss(model, objective.collate(examples))
    return (loss.sum / loss.count).item()


def test_sft_batch_by_hand(sft):
    """Catches: a loss on the prompt, a completion that begins elsewhere, commas as tokens, an end token left out."""
    trainer = sft(datasets.Dataset.from_list([HAND] * 8))
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert batch["input_ids"].tolist() == [[*PREFIX, 8, 5, 0, 14]]
    assert batch["labels"].tolist() == [[-100] * 15 + [8, 5, 0, 14]]
    assert batch["attention_mask"].tolist() == [[1] * 19]


def test_sft_loss_is_ours_with_an_end_token(sft, data, rows, tokenizer):
    """Catches: another loss than `next_token`'s on the same rows, a mean over rows instead of tokens."""
    trainer = sft(data["train"].select(range(8)))
    ended = [{**row, "target_ids": [*row["target_ids"], 14]} for row in rows["train"].select(range(8)).to_list()]
    ended = [{"prefix_ids": row["prefix_ids"], "target_ids": row["target_ids"]} for row in ended]
    objective = ntf.NextToken.from_tokenizer(tokenizer)
    assert loss_of(trainer, range(8)) == pytest.approx(mean_loss(objective, trainer.model, ended), rel=1e-5)


def test_sft_loss_is_ours_without_one(sft, rows, tokenizer):
    """Catches: a way around the end token, labels of our own, that trains on something else."""

    def join(row):
        prefix, target = row["prefix_ids"], row["target_ids"]
        return {"input_ids": prefix + target, "labels": [-100] * len(prefix) + target}

    some = rows["train"].select(range(8))
    trainer = sft(some.map(join, remove_columns=some.column_names))
    objective = ntf.NextToken.from_tokenizer(tokenizer)
    assert loss_of(trainer, range(8)) == pytest.approx(mean_loss(objective, trainer.model, some.to_list()), rel=1e-5)


def test_sft_trains_on_the_dataset_as_it_is(sft, data):
    """Catches: columns of the dataset that TRL stumbles over, labels that cannot be learnt."""
    trainer = sft(data["train"], max_steps=30)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 30
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


def test_sft_with_the_teacherless_collator(sft, rows, tokenizer):
    """Catches: dummies that TRL replaces, another loss than `teacherless`, a step that does not learn."""
    settings = {"dataset_kwargs": {"skip_prepare_dataset": True}, "remove_unused_columns": False}
    trainer = sft(rows["train"], ntf.TeacherlessCollator(tokenizer), max_steps=30, **settings)
    objective = ntf.Teacherless.from_tokenizer(tokenizer)
    examples = rows["train"].select(range(8)).to_list()
    assert loss_of(trainer, range(8)) == pytest.approx(mean_loss(objective, trainer.model, examples), rel=1e-5)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


def test_the_teacherless_collator_says_what_it_needs(sft, data, tokenizer):
    """Catches: text rows, which TRL turns into `input_ids` first, trained on as something else, or a bare KeyError."""
    trainer = sft(data["train"].select(range(8)), ntf.TeacherlessCollator(tokenizer), max_steps=1)
    with pytest.raises(
        ValueError, match=r"pass the dataset through nt_failures\.tokenize.*remove_unused_columns=False"
    ):
        trainer.train()


def test_grpo_with_our_rewards(trained, data, tmp_path):
    """Catches: rewards that TRL cannot call or read, text that TRL decodes otherwise than the judge reads it."""
    calls = []

    def watched(prompts, completions, **columns):
        calls.append((prompts, completions, sorted(columns)))
        return reward_exact_path(prompts, completions, **columns)

    args = GRPOConfig(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=8,
        num_generations=2,
        max_completion_length=3,  # no end token in the model's training: the length is that of a path
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(trained),
        reward_funcs=[watched, reward_valid_prefix],
        args=args,
        train_dataset=data["train"],
        processing_class=AutoTokenizer.from_pretrained(trained),
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logs) == len(calls) == 2
    for entry, (prompts, completions, columns) in zip(logs, calls, strict=True):
        assert len(prompts) == 8
        assert {"edges", "path"} <= set(columns)
        exact, prefix = (sum(f(prompts, completions)) / 8 for f in (reward_exact_path, reward_valid_prefix))
        assert entry["rewards/watched/mean"] == pytest.approx(exact)
        assert entry["rewards/reward_valid_prefix/mean"] == pytest.approx(prefix)
        assert prefix > 0.2  # sampled, not greedy; an untrained model is at 1/45
