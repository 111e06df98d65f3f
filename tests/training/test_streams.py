"""A finite stream that is read more than once: every batch is full, is drawn for anew, and can be resumed at."""

import pytest
import torch

from nt_failures.objectives import Hybrid, MaskedTeacher, NextToken
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.budget import budget_of
from nt_failures.training.trainer import ObjectiveTrainer

TOKENS = {"dummy_token_id": 13, "pad_token_id": 14}


class Watched(ObjectiveTrainer):
    """Remembers the inputs of each step."""

    def training_step(self, model, inputs, *args, **kwargs):
        self.given = [*vars(self).get("given", []), inputs["input_ids"].tolist()]
        return super().training_step(model, inputs, *args, **kwargs)


@pytest.fixture
def streamed(tmp_path, tiny_model, tokenized):
    """`streamed(objective, rows, **options)`: a trainer that takes 4 of so many streamed rows a step, 12 times."""

    def make(objective, rows, **options):
        flags = {"max_steps": 12, "per_device_train_batch_size": 4, "save_strategy": "no", "disable_tqdm": True}
        args = ObjectiveTrainingArguments(str(tmp_path), use_cpu=True, **{**flags, **options})
        stream = tokenized.select(range(rows)).to_iterable_dataset()
        return Watched(tiny_model("gpt2"), args, objective=objective, train_dataset=stream)

    return make


@pytest.mark.parametrize("objective", [MaskedTeacher(**TOKENS), Hybrid(share=0.4, **TOKENS)])
def test_each_pass_is_drawn_for_anew(streamed, objective):
    """Catches: the second pass hidden as the first, whose number the Trainer gives it."""
    trainer = streamed(objective, 16)
    trainer.train()
    passes = [trainer.given[i : i + 4] for i in (0, 4, 8)]
    assert all(a != b for a, b in [(passes[0], passes[1]), (passes[1], passes[2]), (passes[0], passes[2])])


def test_every_row_comes_as_often(streamed, tokenized):
    """Catches: a short batch at the end of a pass, which is counted as a full one."""
    trainer = streamed(NextToken(pad_token_id=14), 6)
    trainer.train()
    whole = [[*row["prefix_ids"], *row["target_ids"]] for row in tokenized.select(range(6))]
    assert [row for step in trainer.given for row in step] == whole * 8
    assert budget_of(trainer).examples == 48


class Sized(torch.utils.data.IterableDataset):
    """A stream that knows how many rows it has."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)


def test_a_stream_that_has_a_length(tiny_model, tokenized, tmp_path):
    """Catches: a short batch counted at the end of each pass, where every batch is full."""
    args = ObjectiveTrainingArguments(str(tmp_path), use_cpu=True, max_steps=5, per_device_train_batch_size=4)
    rows = Sized([*tokenized.select(range(6))])
    trainer = ObjectiveTrainer(tiny_model("gpt2"), args, objective=NextToken(), train_dataset=rows)
    trainer.train()
    assert budget_of(trainer).examples == 20


@pytest.mark.parametrize("step", [3, 7])
def test_a_run_resumes_within_any_pass(streamed, tmp_path, step):
    """Catches: a resumed run that begins the stream anew, skips rows of it, or draws for another pass."""
    whole = streamed(MaskedTeacher(**TOKENS), 18, save_strategy="steps", save_steps=step, max_steps=step + 2)
    whole.train()
    resumed = streamed(MaskedTeacher(**TOKENS), 18, max_steps=step + 2)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert resumed.given == whole.given[step:]
    assert all(torch.equal(w, resumed.model.state_dict()[name]) for name, w in whole.model.state_dict().items())


def test_a_larger_budget_draws_alike(streamed, tmp_path):
    """Catches: rows behind the end of a first budget drawn for as those of another pass."""
    whole, first, more = (
        streamed(MaskedTeacher(**TOKENS), 32, max_steps=steps, lr_scheduler_type="constant", save_strategy=saved)
        for steps, saved in ((6, "no"), (3, "steps"), (6, "no"))
    )
    whole.train()
    first.train()
    more.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert more.given == whole.given[3:]


def test_a_seed_that_was_set_since_is_that_of_the_draws(streamed):
    """Catches: trials of a search over the seed, with other weights and orders and the same masks."""
    trainer, other = (streamed(MaskedTeacher(**TOKENS), 16, max_steps=4, seed=seed) for seed in (0, 7))
    other.train()
    trainer.train()
    assert trainer.given != other.given
    trainer.given = []
    trainer.args.seed = 7
    trainer.train()
    assert trainer.given == other.given
