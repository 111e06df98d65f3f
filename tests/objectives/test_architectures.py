"""Every objective on every architecture trains, decodes, saves and comes back, or one clear error: ARCHITECTURES.md."""

import re
from pathlib import Path

import pytest
import torch

from nt_failures.hub.load import load
from nt_failures.models.capabilities import capabilities
from nt_failures.models.families import FAMILIES
from nt_failures.objectives import OBJECTIVES, Objective, find_objective
from nt_failures.training.arguments import ObjectiveTrainingArguments
from nt_failures.training.trainer import ObjectiveTrainer

PAGE = Path(__file__).parents[2] / "nt_failures" / "objectives" / "ARCHITECTURES.md"
CAN = {
    "gpt2": {"4d_mask", "bidirectional"},
    "gpt_neox": {"4d_mask", "bidirectional"},
    "llama": {"4d_mask", "bidirectional"},
    "mamba": set(),
    "mamba2": set(),
}
"""What each family offers, by hand; with each objective's `needs` this is the table."""
RUNS = {(name, family): find_objective(name).needs <= CAN[family] for name in OBJECTIVES for family in CAN}


@pytest.fixture
def trainer(tiny_model, tokenizer_for, task, tokenized, tmp_path):
    """`trainer(objective's name, family, dtype, **arguments)`: 20 steps on the same eight rows."""

    def make(name, family, dtype=torch.float32, **options):
        defaults = {
            "use_cpu": True,
            "max_steps": 20,
            "learning_rate": 2e-2,
            "lr_scheduler_type": "constant",
            "per_device_train_batch_size": 8,
            "save_strategy": "no",
            "disable_tqdm": True,
            "report_to": [],
        }
        args = ObjectiveTrainingArguments(str(tmp_path), **{**defaults, **options})
        cls = find_objective(name)
        tokenizer = tokenizer_for(cls)
        return ObjectiveTrainer(
            tiny_model(family, known=tokenizer).to(dtype),
            args,
            objective=cls.from_tokenizer(tokenizer),
            task=task,
            train_dataset=tokenized.select(range(8)),
            processing_class=tokenizer,
        )

    return make


@torch.no_grad()
def loss_of(objective, model, rows):
    """Mean over the labels of these rows, with the same random draws at each call."""
    torch.manual_seed(0)
    loss = objective.loss(model.eval(), objective.collate(rows))
    return float(loss.sum / loss.count)


def test_families_offer_what_the_table_says(tiny_model):
    """Catches: a family that is left out of the table, or said to honour a mask that it ignores."""
    assert set(CAN) == set(FAMILIES)
    assert {family: set(capabilities(tiny_model(family))) for family in FAMILIES} == CAN


@pytest.mark.parametrize(("name", "family"), [cell for cell, runs in RUNS.items() if runs])
def test_an_objective_trains_and_comes_back(name, family, trainer, examples, tmp_path):
    """Catches: an objective that an architecture cannot run, does not learn under, or does not come back from disk."""
    made = trainer(name, family)
    rows = examples[:8]
    before = loss_of(made.training_objective, made.model, rows)
    made.train()
    after = loss_of(made.training_objective, made.model, rows)
    assert after < 0.9 * before
    made.save_model()
    loaded = load(str(tmp_path))
    assert loss_of(loaded.objective, loaded.model, rows) == after
    ids = torch.tensor([row["prefix_ids"] for row in examples])
    for way in made.training_objective.decodings:
        decoded = made.training_objective.decode(made.model, ids, 3, decoding=way)
        assert decoded.shape == (32, 3)
        assert torch.equal(loaded.objective.decode(loaded.model, ids, 3, decoding=way), decoded)


@pytest.mark.parametrize(("name", "family"), [cell for cell, runs in RUNS.items() if not runs])
def test_an_objective_says_what_it_misses(name, family, trainer):
    """Catches: an objective trained on a model that ignores its mask; an error that names no way out."""
    cls = find_objective(name)
    message = rf"{cls.__name__} needs 4d_mask.*, which \w+ForCausalLM does not offer; train it with an attention model"
    with pytest.raises(ValueError, match=message):
        trainer(name, family)


def test_the_page_shows_this_table():
    """Catches: a cell of the page that says otherwise, a new objective or family that it leaves out."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    head, _, *rows = [line.strip("| ").split("|") for line in lines if line.startswith("|")]
    families = [re.sub(r"[` ]", "", cell) for cell in head[1:]]
    shown = {
        (row[0].strip("` "), f): cell.strip() == "yes"
        for row in rows
        for f, cell in zip(families, row[1:], strict=True)
    }
    assert shown == RUNS


MODULES = [name for name, cls in OBJECTIVES.items() if cls.attach is not Objective.attach]
WAYS = (("mamba", {}), ("mamba2", {}), ("mamba", {"bf16": True}), ("gpt2", {"bf16": True}))


@pytest.mark.parametrize(
    ("name", "family", "options"), [(name, *way) for name in MODULES for way in WAYS if RUNS[name, way[0]]]
)
def test_objectives_with_modules_train_bfloat16_weights(name, family, options, trainer):
    """Catches: float32 states, which a Mamba and autocast return, meeting modules in bfloat16."""
    made = trainer(name, family, dtype=torch.bfloat16, max_steps=2, **options)
    assert {p.dtype for p in made.model.parameters()} == {torch.bfloat16}
    made.train()
    assert 0 < made.evaluate(made.train_dataset)["eval_loss"] < 30


@pytest.mark.parametrize("name", MODULES)
def test_bf16_reaches_the_modules_of_an_objective(name, trainer):
    """Catches: autocast around the model alone, with the modules beside it in float32 and at its speed."""
    made = trainer(name, "gpt2", max_steps=1, bf16=True)
    seen = set()
    for part in made.model.modules():
        if isinstance(part, torch.nn.Linear):  # torch leaves a GRU on a CPU in float32
            part.register_forward_hook(lambda part, given, found: seen.add(found.dtype))
    made.train()
    made.evaluate(made.train_dataset)
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}
    assert seen == {torch.bfloat16}
