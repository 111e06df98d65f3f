"""Objectives: hand-written batches and losses of ours, and the contract of every objective in the package."""

import dataclasses
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from nt_failures.data.batches import IGNORE
from nt_failures.models import mamba_scan
from nt_failures.models.capabilities import CAPABILITIES
from nt_failures.objectives import (
    OBJECTIVES,
    Hybrid,
    MaskedTeacher,
    NextToken,
    Teacherless,
    auxiliary_modules,
    find_objective,
    read_objective,
)

# ---------------------------------------------------------------- by hand: two rows, dummy 13, padding 14

X = IGNORE
TOKENS = {"dummy_token_id": 13, "pad_token_id": 14}


def row(prefix, target):
    return {"prefix_ids": prefix, "target_ids": target}


ROWS = {
    "equal": [row([1, 2, 3], [7, 8, 9]), row([4, 5, 6], [10, 11, 12])],
    "ragged": [row([1, 2, 3], [7, 8]), row([4, 5], [10, 11, 12])],
}
MASK = {"equal": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], "ragged": [[1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]]}
POSITIONS = {"ragged": [[0, 1, 2, 3, 4, 4], [0, 0, 1, 2, 3, 4]]}
LABELS = {
    ("equal", "forward"): [[X, X, X, 7, 8, 9], [X, X, X, 10, 11, 12]],
    ("equal", "reversed"): [[X, X, X, 9, 8, 7], [X, X, X, 12, 11, 10]],
    ("ragged", "forward"): [[X, X, X, 7, 8, X], [X, X, X, 10, 11, 12]],
    ("ragged", "reversed"): [[X, X, X, 8, 7, X], [X, X, X, 12, 11, 10]],
}
REVEALED = {
    ("equal", "forward"): [[1, 2, 3, 7, 8, 9], [4, 5, 6, 10, 11, 12]],
    ("equal", "reversed"): [[1, 2, 3, 9, 8, 7], [4, 5, 6, 12, 11, 10]],
    ("ragged", "forward"): [[1, 2, 3, 7, 8, 14], [14, 4, 5, 10, 11, 12]],
    ("ragged", "reversed"): [[1, 2, 3, 8, 7, 14], [14, 4, 5, 12, 11, 10]],
}
HIDDEN = {
    ("equal", "forward"): [[1, 2, 3, 13, 13, 13], [4, 5, 6, 13, 13, 13]],
    ("equal", "reversed"): [[1, 2, 3, 13, 13, 13], [4, 5, 6, 13, 13, 13]],
    ("ragged", "forward"): [[1, 2, 3, 13, 13, 14], [14, 4, 5, 13, 13, 13]],
    ("ragged", "reversed"): [[1, 2, 3, 13, 13, 14], [14, 4, 5, 13, 13, 13]],
}
HALF = {
    ("equal", "forward"): [[1, 2, 3, 13, 13, 13], [4, 5, 6, 10, 11, 12]],
    ("equal", "reversed"): [[1, 2, 3, 13, 13, 13], [4, 5, 6, 12, 11, 10]],
    ("ragged", "forward"): [[1, 2, 3, 13, 13, 14], [14, 4, 5, 10, 11, 12]],
    ("ragged", "reversed"): [[1, 2, 3, 13, 13, 14], [14, 4, 5, 12, 11, 10]],
}
# torch.manual_seed(0); torch.rand(2, 3) is .50 .77 .09 / .13 .31 .63: a rate of 0.4 hides the third, fourth and fifth.
MASKED = {
    ("equal", "forward"): [[1, 2, 3, 7, 8, 13], [4, 5, 6, 13, 13, 12]],
    ("equal", "reversed"): [[1, 2, 3, 9, 8, 13], [4, 5, 6, 13, 13, 10]],
    ("ragged", "forward"): [[1, 2, 3, 7, 8, 14], [14, 4, 5, 13, 13, 12]],
    ("ragged", "reversed"): [[1, 2, 3, 8, 7, 14], [14, 4, 5, 13, 13, 10]],
}
OURS = {
    "next_token": (NextToken, {}, REVEALED),
    "teacherless": (Teacherless, {}, HIDDEN),
    "hybrid": (Hybrid, {"share": 0.5}, HALF),
    "hybrid-0": (Hybrid, {"share": 0}, REVEALED),
    "hybrid-1": (Hybrid, {"share": 1}, HIDDEN),
    "masked_teacher": (MaskedTeacher, {"rate": 0.4}, MASKED),
    "masked_teacher-0": (MaskedTeacher, {"rate": 0.0}, REVEALED),
    "masked_teacher-1": (MaskedTeacher, {"rate": 1.0}, HIDDEN),
}
by_objective = pytest.mark.parametrize("ours", OURS)
by_order = pytest.mark.parametrize("order", ["forward", "reversed"])
by_lengths = pytest.mark.parametrize("lengths", ["equal", "ragged"])


def collate(ours, order, lengths):
    cls, options, _ = OURS[ours]
    torch.manual_seed(0)
    return cls(order=order, **TOKENS, **options).collate(ROWS[lengths])


@by_objective
@by_order
@by_lengths
def test_whole_batch_by_hand(ours, order, lengths):
    """Catches: shifted or prefix labels, a dummy in the padding or over the labels, a mask in the wrong order."""
    expected = {
        "input_ids": OURS[ours][2][lengths, order],
        "attention_mask": MASK[lengths],
        "labels": LABELS[lengths, order],
    }
    if lengths in POSITIONS:
        expected["position_ids"] = POSITIONS[lengths]
    assert {name: tensor.tolist() for name, tensor in collate(ours, order, lengths).items()} == expected


# Row, predicting column, predicted token: the terms of every loss above, counted in each row without its padding.
TERMS = {
    ("equal", "forward"): [(0, 2, 7), (0, 3, 8), (0, 4, 9), (1, 2, 10), (1, 3, 11), (1, 4, 12)],
    ("equal", "reversed"): [(0, 2, 9), (0, 3, 8), (0, 4, 7), (1, 2, 12), (1, 3, 11), (1, 4, 10)],
    ("ragged", "forward"): [(0, 2, 7), (0, 3, 8), (1, 1, 10), (1, 2, 11), (1, 3, 12)],
    ("ragged", "reversed"): [(0, 2, 8), (0, 3, 7), (1, 1, 12), (1, 2, 11), (1, 3, 10)],
}


def loss_by_hand(model, input_ids, terms):
    """- sum of log p(token), from the full logits of each row without its padding."""
    log_p = [model(torch.tensor([[i for i in ids if i != 14]])).logits[0].log_softmax(dim=-1) for ids in input_ids]
    return -sum(log_p[i][column, token] for i, column, token in terms)


@by_objective
@by_order
@by_lengths
@pytest.mark.parametrize("family", ["gpt2", "mamba"])
def test_loss_by_hand(ours, order, lengths, family, tiny_model):
    """Catches: logits one column off, a mean for a sum, padding that leaks into a row, a loss on the prefix."""
    model = tiny_model(family, spread=0.5)
    cls, options, inputs = OURS[ours]
    loss = cls(order=order, **TOKENS, **options).loss(model, collate(ours, order, lengths))
    by_hand = loss_by_hand(model, inputs[lengths, order], TERMS[lengths, order])
    torch.testing.assert_close(loss.sum, by_hand, rtol=1e-4, atol=1e-4)
    assert int(loss.count) == len(TERMS[lengths, order])


@pytest.mark.parametrize(
    ("order", "labels", "terms"),
    [
        ("forward", [[X, X, X, X, 8, X], [X, X, X, X, 11, X]], [(0, 3, 8), (1, 2, 11)]),
        ("reversed", [[X, X, X, 8, X, X], [X, X, X, X, 11, X]], [(0, 2, 8), (1, 2, 11)]),
    ],
)
def test_next_token_on_position_2_only(order, labels, terms, tiny_model):
    """Catches: positions in the order of training instead of the task's, other inputs than for all positions."""
    model = tiny_model("gpt2", spread=0.5)
    objective = NextToken(order=order, positions=(2,), **TOKENS)
    batch = objective.collate(ROWS["ragged"])
    assert batch["labels"].tolist() == labels
    assert batch["input_ids"].tolist() == REVEALED["ragged", order]
    loss = objective.loss(model, batch)
    torch.testing.assert_close(loss.sum, loss_by_hand(model, REVEALED["ragged", order], terms), rtol=1e-4, atol=1e-4)
    assert int(loss.count) == 2
    assert objective.trained_positions == (2,)
    assert read_objective(json.loads(json.dumps(objective.to_dict()))) == objective


def test_next_token_positions_are_symbols_not_tokens():
    """Catches: the second token for the second symbol, where commas and long numbers have tokens of their own."""
    rows = [{"prefix_ids": [1], "target_ids": [5, 9, 6, 7, 9, 8], "target_positions": [1, 0, 2, 2, 0, 3]}]
    assert NextToken(positions=(2,)).collate(rows)["labels"].tolist() == [[X, X, X, 6, 7, X, X]]
    assert NextToken(positions=(2,), order="reversed").collate(rows)["labels"].tolist() == [[X, X, X, 7, 6, X, X]]
    assert NextToken(positions=(1, 3)).collate(rows)["labels"].tolist() == [[X, 5, X, X, X, X, 8]]


def test_a_slice_without_labels_has_loss_0(tiny_model):
    """Catches: a crash when a process gets only rows whose answer is too short for `positions`."""
    objective = NextToken(positions=(3,), **TOKENS)
    batch = objective.collate(ROWS["ragged"])
    loss = objective.loss(tiny_model("gpt2"), {name: tensor[:1] for name, tensor in batch.items()})
    assert (loss.sum.item(), loss.count.item()) == (0, 0)


def test_hybrid_splits_a_batch_exactly():
    """Catches: a form drawn per row, the split taken from the end, a rounded-off row that is always the same form."""
    rows = [row([1], [2, 3]), row([4], [5, 6]), row([7], [8, 9]), row([10], [11, 12])]
    labels = [[X, 2, 3], [X, 5, 6], [X, 8, 9], [X, 11, 12]]
    batch = Hybrid(**TOKENS).collate(rows)
    assert batch["input_ids"].tolist() == [[1, 13, 13], [4, 13, 13], [7, 8, 9], [10, 11, 12]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1]] * 4
    assert batch["labels"].tolist() == labels
    batch = Hybrid(order="reversed", **TOKENS).collate(rows)
    assert batch["input_ids"].tolist() == [[1, 13, 13], [4, 13, 13], [7, 9, 8], [10, 12, 11]]
    assert batch["labels"].tolist() == [[X, 3, 2], [X, 6, 5], [X, 9, 8], [X, 12, 11]]
    first_two_or_one = set()
    for seed in range(8):
        torch.manual_seed(seed)
        first_two_or_one.add(tuple(Hybrid(**TOKENS).collate(rows[:3])["input_ids"][:, 1].tolist()))
    assert first_two_or_one == {(13, 5, 8), (13, 13, 8)}


def test_masked_teacher_draws_one_rate_for_each_row():
    """Catches: one rate for the whole batch, a rate per token."""
    torch.manual_seed(0)  # rates .50 and .77, then .09 .13 .31 / .63 .49 .90
    batch = MaskedTeacher(**TOKENS).collate(ROWS["equal"])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 13, 13, 13], [4, 5, 6, 13, 13, 12]]
    assert batch["labels"].tolist() == LABELS["equal", "forward"]


@pytest.mark.parametrize("rate", [None, 0.5])
def test_masked_teacher_hides_one_run(rate):
    """Catches: runs that miss the rate, reach into the padding, stand at one place, or are many."""
    torch.manual_seed(0)
    rows = [row([1], [2, 3, 4, 5, 6]), row([1], [7, 8, 9])] * 2000
    batch = MaskedTeacher(rate=rate, spans=True, **TOKENS).collate(rows)
    hidden = batch["input_ids"][:, 1:].eq(13).int()
    assert int(hidden.diff(dim=1, prepend=torch.zeros(4000, 1)).eq(1).sum(dim=1).max()) == 1
    assert hidden[1::2, 3:].sum() == 0
    for some, width in ((hidden[::2], 5), (hidden[1::2, :3], 3)):
        assert float(some.float().mean()) == pytest.approx(0.5, abs=0.02)
        assert set(some.sum(dim=1).tolist()) == ({width // 2, width // 2 + 1} if rate else {*range(width + 1)})
        shares = some.float().mean(dim=0)
        assert float(shares.min()) > 0.2
        torch.testing.assert_close(shares, shares.flip(0), rtol=0, atol=0.05)
    assert batch["labels"][:2].tolist() == [[X, 2, 3, 4, 5, 6], [X, 7, 8, 9, X, X]]


@pytest.mark.parametrize("spans", [False, True])
def test_masked_teacher_takes_whole_numbers_for_rates(spans):
    """Catches: a rate of 0 or 1, as JSON writes them, that counts in whole numbers."""
    hidden = [MaskedTeacher(rate=rate, spans=spans, **TOKENS).collate(ROWS["equal"])["input_ids"] for rate in (0, 1)]
    assert [ids[:, 3:].tolist() for ids in hidden] == [[[7, 8, 9], [10, 11, 12]], [[13] * 3] * 2]


def test_masked_teacher_puts_random_tokens_for_dummies(tokenizer):
    """Catches: tokens replaced that are not hidden, a share of all tokens, random labels, one token for the batch."""
    torch.manual_seed(0)
    rows = [row([1], [5, 5, 5])] * 2000
    objective = MaskedTeacher.from_tokenizer(tokenizer, rate=0.5, replaced=0.4)
    assert objective.vocabulary == 15
    batch = objective.collate(rows)
    shares = torch.bincount(batch["input_ids"][:, 1:].flatten(), minlength=15) / 6000
    expected = torch.full((15,), 0.5 * 0.4 / 15)
    expected[5] += 0.5
    expected[13] += 0.5 * 0.6
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.02)
    assert batch["labels"].unique().tolist() == [X, 5]
    with pytest.raises(ValueError, match=r"replaced=0.4 draws random tokens.*from_tokenizer"):
        MaskedTeacher(replaced=0.4, **TOKENS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NextToken(positions=()), "positions"),
        (lambda: NextToken(positions=(0,)), "from 1"),
        (lambda: NextToken(positions=(9,)).collate(ROWS["equal"]), r"no target token stands at positions \(9,\)"),
        (lambda: Hybrid(share=1.5, **TOKENS), "share=1.5"),
        (lambda: MaskedTeacher(rate=-0.1, **TOKENS), "rate=-0.1"),
        (lambda: MaskedTeacher(spans=1, **TOKENS), "spans=1 must be True or False"),
        (lambda: Hybrid(parallel="no", **TOKENS), "parallel='no' must be True or False"),
        (lambda: Teacherless(), "Teacherless.*no dummy_token_id.*from_tokenizer"),
    ],
)
def test_options_out_of_range(make, message):
    """Catches: a typo that trains something else in silence."""
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------- the contract of every objective, found by scanning

OFFERED = {"gpt2": frozenset(CAPABILITIES), "mamba": frozenset()}


def pytest_generate_tests(metafunc):
    """`name` (and `family`) of a test of the contract: every objective of the package, or the one of `--objective`."""
    own = metafunc.config.getoption("--objective")
    names = [own] if own else OBJECTIVES
    if "family" in metafunc.fixturenames and "name" in metafunc.fixturenames:
        needs = {name: find_objective(name).needs for name in names}
        cases = [(n, f) for n in names for f, offered in OFFERED.items() if needs[n] <= offered]
        metafunc.parametrize(("name", "family"), cases)
    elif "name" in metafunc.fixturenames:
        metafunc.parametrize("name", names)


@pytest.fixture
def build(tokenizer_for, tiny_model):
    """The objective, and a model with its modules in it, every parameter off its initial value."""

    def make(name, order, family):
        cls = find_objective(name)
        known = tokenizer_for(cls)
        objective = cls.from_tokenizer(known, order=order)
        model = tiny_model(family, spread=0.3, known=known)
        torch.manual_seed(1)
        objective.attach(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return objective, model.eval()

    return make


def seeded_loss(objective, model, batch):
    torch.manual_seed(2)
    return objective.loss(model, batch)


@by_order
def test_contract_of_the_batch(name, order, family, build, ragged):
    """Catches: a loss on the prefix, a count that is not the number of labels, sums reported as means."""
    objective, model = build(name, order, family)
    batch = objective.collate(ragged)
    assert batch["input_ids"].shape == batch["attention_mask"].shape[:1] + batch["labels"].shape[1:]
    assert bool((batch["labels"][:, :15] == IGNORE).all())
    assert bool((batch["labels"][batch["attention_mask"] == 0] == IGNORE).all())
    loss = objective.loss(model, batch)
    assert int(loss.count) == int((batch["labels"] != IGNORE).sum()) > 0
    assert loss.sum.ndim == 0
    assert bool(loss.sum.isfinite())


@by_order
def test_contract_of_additivity(name, order, family, build, ragged):
    """Catches: a mean inside the objective, rows that see each other: wrong under accumulation and data parallelism."""
    objective, model = build(name, order, family)
    torch.manual_seed(0)
    batch = objective.collate(ragged)
    whole = seeded_loss(objective, model, batch)
    parts = [
        seeded_loss(objective, model, {key: value[i : i + 1] for key, value in batch.items()})
        for i in range(len(ragged))
    ]
    torch.testing.assert_close(whole.sum, torch.stack([part.sum for part in parts]).sum(), rtol=1e-4, atol=1e-3)
    assert int(whole.count) == sum(int(part.count) for part in parts)


@by_order
def test_contract_of_decode(name, order, family, build, ragged):
    """Catches: a decode that sees the target, by an argument or by what `collate` and `loss` left; padding seen."""
    objective, model = build(name, order, family)
    lengths = torch.tensor([len(example["target_ids"]) for example in ragged])
    other = [{**example, "target_ids": [(i + 1) % 10 for i in example["target_ids"]]} for example in ragged]
    for way in objective.decodings:
        decoded = []
        for rows in (ragged, other):
            parts = objective.layout(rows)
            objective.loss(model, objective.collate(rows))
            decoded.append(objective.decode(model, parts["prefix_ids"], lengths, parts["prefix_mask"], decoding=way))
        assert torch.equal(*decoded)
        for i, example in enumerate(ragged):
            alone = objective.decode(model, torch.tensor([example["prefix_ids"]]), int(lengths[i]), decoding=way)[
                0
            ].tolist()
            assert decoded[0][i].tolist() == alone + [IGNORE] * (3 - len(alone))
    with pytest.raises(ValueError, match="'by_magic'"):
        objective.decode(model, parts["prefix_ids"], lengths, decoding="by_magic")


@by_order
def test_contract_of_gradients(name, order, family, build, ragged):
    """Catches: an attached module outside the loss, a detach too many."""
    objective, model = build(name, order, family)
    torch.manual_seed(0)
    objective.loss(model, objective.collate(ragged)).sum.backward()
    dead = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not bool(p.grad.any()))]
    assert dead == []


@by_order
def test_contract_of_saving(name, order, family, build, ragged, tmp_path):
    """Catches: options lost in JSON, modules kept outside the model, a model changed so that it no longer loads; a
    size of the model that counts the objective's modules."""
    objective, model = build(name, order, family)
    again = read_objective(json.loads(json.dumps(objective.to_dict())))
    assert again == objective
    torch.manual_seed(0)
    batch = objective.collate(ragged)
    model.save_pretrained(tmp_path, state_dict=auxiliary_modules.save(model.state_dict(), tmp_path))
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    loaded.eval()
    assert {*report["unexpected_keys"], *report["missing_keys"]} == set()  # a stock checkpoint
    mamba_scan.use_scan(loaded)  # another scan rounds another way
    inputs = {"input_ids": torch.tensor([[1, 2, 3, 4]])}
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    assert auxiliary_modules.stock_parameters(model) == loaded.num_parameters()
    again.attach(loaded)
    assert auxiliary_modules.has_modules(loaded) == (tmp_path / auxiliary_modules.MODULES_FILE).exists()
    if auxiliary_modules.has_modules(loaded):
        auxiliary_modules.load(loaded, tmp_path / auxiliary_modules.MODULES_FILE)
    assert torch.equal(seeded_loss(again, loaded, batch).sum, seeded_loss(objective, model, batch).sum)


def test_contract_of_learning(name, tokenizer_for, tiny_model, examples):
    """Catches: labels that do not belong to what `decode` reads, an answer left in reversed order."""
    known = tokenizer_for(find_objective(name))
    objective = find_objective(name).from_tokenizer(known, order="reversed")
    model = tiny_model("gpt2", size="2x32", known=known)
    objective.attach(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows = examples[:8]
    prefix, target = torch.tensor([r["prefix_ids"] for r in rows]), torch.tensor([r["target_ids"] for r in rows])
    wrong = list(objective.decodings)
    for step in range(1, 2401):
        shuffled = [rows[i] for i in torch.randperm(8)] * 4  # of those that hide at random, four ways each
        loss = objective.loss(model, objective.collate(shuffled))
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
        if step % 20 == 0:
            wrong = [
                w
                for w in objective.decodings
                if not torch.equal(objective.decode(model, prefix, 3, decoding=w), target)
            ]
        if not wrong:
            break
    assert wrong == []


def test_contract_of_options(name, tokenizer_for):
    """Catches: a misspelt option that is dropped in silence, another dummy than the task's."""
    cls = find_objective(name)
    assert dataclasses.is_dataclass(cls)
    assert cls.citation
    assert set(cls.needs) <= set(CAPABILITIES)
    assert {*cls.decodings} <= {"autoregressive", "parallel", "unmasking", "insertion"}
    tokenizer = tokenizer_for(cls)
    objective, options = cls.from_tokenizer(tokenizer), cls.extra_tokens.values()
    assert (objective.pad_token_id, objective.dummy_token_id) == (14, 13 if "dummy_token_id" in options else None)
    assert tokenizer.convert_ids_to_tokens([getattr(objective, option) for option in options]) == [*cls.extra_tokens]
    with pytest.raises(ValueError, match=r"no option 'ordre'\. Did you mean 'order'\? It has .*order"):
        cls.from_tokenizer(tokenizer, ordre="forward")
    with pytest.raises(ValueError, match=r"order='backward' is not a choice.*'forward', 'reversed'"):
        cls.from_tokenizer(tokenizer, order="backward")


def test_how_an_objective_decodes_and_is_judged(tokenizer_for):
    """Catches: a teacherless model judged by forced predictions, a belief state taken for a stock checkpoint."""
    parallel = {"teacherless", "masked_diffusion", "insertion"}
    alone = {*parallel, "belief_state", "joint_multi_token", "semformer", "uniform_mask"}
    for name, cls in OBJECTIVES.items():
        objective = cls.from_tokenizer(tokenizer_for(cls))
        assert objective.autoregressive is (name not in parallel)
        assert objective.judged_decoding == ("free" if name in parallel else "forced")
        assert objective.stock is (name not in alone)
        if {*objective.decodings} == {"autoregressive", "parallel"}:
            judged_at_once = cls.from_tokenizer(tokenizer_for(cls), parallel=True)
            assert (judged_at_once.judged_decoding, judged_at_once.stock) == ("free", False)
            assert cls.decodings[0] == "autoregressive"
