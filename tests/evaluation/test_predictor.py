"""ModelPredictor: against decoding by hand, one row at a time, without padding, cache or any of our own reading."""

import functools

import numpy as np
import pytest
import torch
from own_tasks import Countdown, counted
from planted import byte_bpe
from small_models import SMALL
from transformers import GPT2Config, GPT2LMHeadModel

from nt_failures.data.tokenizer import encode_rows, word_level_tokenizer
from nt_failures.evaluation.observations import Observations
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.models.load import load_model
from nt_failures.objectives import Hybrid, Insertion, NextToken, Teacherless
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 4, 100)
ROWS, LENGTH = 10, 4
CHARACTERS = "0123456789,|/=$"

every_way = pytest.mark.parametrize("order", ["forward", "reversed"])
every_kind = pytest.mark.parametrize("kind", ["words", "bpe"])
every_family = pytest.mark.parametrize("family", ["gpt2", "mamba"])


@pytest.fixture(scope="module")
def columns():
    return TASK.sample(np.random.default_rng(3), ROWS)


@pytest.fixture(scope="module")
def tokenizers_():
    """Words, and a BPE of 60 tokens: some of the 100 labels are one token, most are two."""
    bpe = byte_bpe(TASK, 60, CHARACTERS)
    lengths = {len(ids) for ids in bpe([str(label) for label in range(100)]).input_ids}
    assert lengths == {1, 2}
    return {"words": word_level_tokenizer(TASK), "bpe": bpe}


def learn_to_write(predictor, columns):
    """Steps on the rows themselves, until most answers are four numbers and few are right."""
    encoded = encode_rows(predictor.tokenizer, *map(list, zip(*texts(columns, columns["path"]), strict=True)))
    batch = predictor.objective.collate(
        [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    )
    optimizer = torch.optim.Adam(predictor.model.parameters(), lr=0.02)
    for _ in range(30):
        loss = predictor.objective.loss(predictor.model, batch)
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()


@pytest.fixture(scope="module")
def make(tokenizers_, columns):
    """`make(family, kind, objective class, order)`: a predictor whose answers differ from row to row.

    With words the model is untrained; a BPE's has learnt that numbers are parted by commas.
    """

    @functools.cache
    def predictor(family, kind, objective=NextToken, order="forward", dropout=0.0):
        torch.manual_seed(5)
        tokenizer = tokenizers_[kind]
        options = {"resid_pdrop": dropout} if dropout else {}
        model = load_model(f"{family}-1x16", tokenizer, 100, {**SMALL[family], **options})
        made = objective.from_tokenizer(tokenizer, order=order)
        found = ModelPredictor(model, tokenizer, made, TASK, batch_size=4)  # 10 rows: 4, 4 and 2
        if kind == "words":
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.5)
        else:
            learn_to_write(found, columns)
        model.eval()
        return found

    return predictor


# ---------------------------------------------------------------- by hand


def texts(columns, answers):
    """Prompts and completions written with Python's own string methods."""
    for edges, source, goal, answer in zip(
        columns["edges"].tolist(), columns["source"].tolist(), columns["goal"].tolist(), answers.tolist(), strict=True
    ):
        yield "|".join(f"{a},{b}" for a, b in edges) + f"/{source},{goal}=", ",".join(map(str, answer))


def label(word):
    return int(word) if word.isdigit() and len(word) < 10 else -1


def answer_in(text, order="forward"):
    """The first four symbols of a text, the last four if it was written from the end; -1 for no number or nothing."""
    found = [label(word) for word in text.replace(",", " ").split()]
    missing = [-1] * (LENGTH - len(found))
    return found[:LENGTH] + missing if order == "forward" else missing + found[-LENGTH:]


def greedy(model, ids, steps):
    ids = list(ids)
    for _ in range(steps):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(ids) - steps :]


def turned(ids, order):
    return ids[::-1] if order == "reversed" else ids


def groups(tokenizer, ids):
    """Indices of the tokens of each symbol: commas part them where commas are tokens, else each token is one."""
    pieces = [tokenizer.decode([i]) for i in ids]
    if "," not in pieces:
        return [[i] for i in range(len(ids))]
    found = [[]]
    for i, piece in enumerate(pieces):
        if piece == ",":
            found.append([])
        else:
            found[-1].append(i)
    return found


@torch.no_grad()
def by_hand(predictor, columns, answers, way, symbols=0):
    model, tokenizer, order = predictor.model, predictor.tokenizer, predictor.order
    found = []
    for prompt, completion in texts(columns, answers):
        prefix, target = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, completion))
        written = turned(target, order)
        if way == "forced":
            logits = model(torch.tensor([prefix + written])).logits[0, len(prefix) - 1 : -1]
            predicted = turned(logits.argmax(dim=-1).tolist(), order)
            pieces = [tokenizer.decode([predicted[i] for i in group]) for group in groups(tokenizer, target)]
            numbers = [piece.replace(",", " ").split() for piece in pieces]
            found.append([label(number[0]) if len(number) == 1 else -1 for number in numbers])
            continue
        cut = groups(tokenizer, written)[symbols - 1][-1] + 1 if symbols else 0
        given = written[:cut]
        rest = greedy(model, prefix + given, len(written) - len(given))
        found.append(answer_in(tokenizer.decode(turned(given + rest, order)), order))
    return found


@every_way
@every_kind
@every_family
def test_forced_by_hand(family, kind, order, make, columns):
    """Catches: columns off by one, padding seen, tokens of a number parted, reversed answers left reversed."""
    predictor = make(family, kind, order=order)
    for answers in (columns["path"], columns["path"][::-1]):  # the true ones, and those of other rows
        found = predictor.forced(columns, answers)
        assert found.tolist() == by_hand(predictor, columns, answers, "forced")
    assert found.shape == (ROWS, LENGTH)
    assert found.dtype == np.int64
    assert (found >= 0).any()
    assert len(np.unique(found, axis=0)) > ROWS // 2


@every_way
@every_kind
@every_family
def test_free_by_hand(family, kind, order, make, columns):
    """Catches: the true answer shown, symbols that are no label dropped, which moves all later ones."""
    predictor = make(family, kind, order=order)
    found = predictor.free(columns)
    assert found.tolist() == by_hand(predictor, columns, columns["path"], "free")
    assert kind == "bpe" or (found == -1).any()
    assert len(np.unique(found, axis=0)) > ROWS // 2


@every_way
@every_kind
@every_family
def test_continued_by_hand(family, kind, order, make, columns):
    """Catches: too many or too few tokens given, the wrong end given in reversed order, the answer put together
    wrongly."""
    predictor = make(family, kind, order=order)
    answers = columns["path"][:, [0, 2, 1, 3]]
    found = predictor.continued(columns, answers, 2)
    assert found.tolist() == by_hand(predictor, columns, answers, "continued", symbols=2)
    kept = [0, 1] if order == "forward" else [2, 3]
    if kind == "bpe":  # an untrained model may go on with digits, right where the second number ends
        kept = kept[:1] if order == "forward" else kept[1:]
    assert np.array_equal(found[:, kept], answers[:, kept])
    assert np.array_equal(predictor.continued(columns, answers, 0), predictor.free(columns))


@every_way
@every_kind
@every_family
@torch.no_grad()
def test_candidates_by_hand(family, kind, order, make, columns):
    """Catches: probabilities of the step before or after, of a symbol's second token, of the other end, unsorted."""
    predictor = make(family, kind, order=order)
    answers = columns["path"][:, [0, 2, 1, 3]]
    found = predictor.candidates(columns, answers, top=3)
    assert [len(row) for row in found] == [LENGTH] * ROWS
    tokenizer = predictor.tokenizer
    for row, (prompt, completion) in zip(found, texts(columns, answers), strict=True):
        prefix, target = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, completion))
        written = turned(target, order)
        starts = [group[0] for group in groups(tokenizer, written)]
        for pairs, start in zip(turned(row, order), starts, strict=True):
            shares = predictor.model(torch.tensor([prefix + written[:start]])).logits[0, -1].softmax(dim=-1)
            best = shares.sort(descending=True)
            assert [text for text, _ in pairs] == [tokenizer.decode([i]) for i in best.indices[:3].tolist()]
            assert [share for _, share in pairs] == pytest.approx(best.values[:3].tolist(), abs=1e-5)


@torch.no_grad()
def test_candidates_of_parallel_models_see_dummies(make, columns):
    """Catches: the answer shown to a model that decodes all positions at once; more tokens asked for than there are."""
    predictor = make("gpt2", "words", Teacherless)
    found = predictor.candidates(columns, columns["path"], top=1000)
    assert found == predictor.candidates(columns, columns["path"][:, ::-1], top=1000)
    assert {len(pairs) for row in found for pairs in row} == {len(predictor.tokenizer)}
    firsts = [[label(pairs[0][0]) for pairs in row] for row in found]
    assert firsts == predictor.free(columns).tolist()


# ---------------------------------------------------------------- what a prediction may depend on


@every_way
@every_kind
@pytest.mark.parametrize("objective", [NextToken, Teacherless])
def test_nothing_leaks_into_free_decoding(objective, kind, order, make, columns):
    """Catches: any view of the answer. (Its length in tokens is given, so the other answers here have the same.)"""
    predictor = make("gpt2", kind, objective, order)
    other = TASK.with_answers(columns, columns["path"][:, ::-1])
    assert np.array_equal(predictor.free(other), predictor.free(columns))


@every_kind
@every_family
def test_forced_predictions_see_earlier_symbols_only(family, kind, make, columns):
    """Catches: a prediction that sees itself or the future, or not the symbols revealed before it."""
    predictor = make(family, kind)
    found = predictor.forced(columns, columns["path"])
    changed = columns["path"].copy()
    changed[:, [2, 3]] = changed[:, [3, 2]]
    other = predictor.forced(columns, changed)
    blind = 3 if kind == "words" else 2  # the later tokens of a number see its first
    assert np.array_equal(found[:, :blind], other[:, :blind])
    assert (found[:, 3] != other[:, 3]).any()


@every_way
@every_family
def test_continued_goes_on_from_what_was_given(family, order, make, columns):
    """Catches: a continuation that ignores its start, or that sees the rest of the answer."""
    predictor = make(family, "words", order=order)
    free = predictor.free(columns)
    whole = (free >= 0).all(axis=1)
    assert whole.any()
    rows = {name: column[whole] for name, column in columns.items()}
    for symbols in (1, 2, 3):
        assert np.array_equal(predictor.continued(rows, free[whole], symbols), free[whole])
    start, rest = (slice(0, 2), slice(2, 4)) if order == "forward" else (slice(2, 4), slice(0, 2))
    other_rest, other_start = columns["path"].copy(), columns["path"].copy()
    other_rest[:, rest] = 7
    other_start[:, start] = 7
    found = predictor.continued(columns, columns["path"], 2)
    assert np.array_equal(predictor.continued(columns, other_rest, 2), found)
    assert (predictor.continued(columns, other_start, 2)[:, rest] != found[:, rest]).any()


def test_parallel_objectives(make, columns):
    """Catches: a teacherless model decoded token by token; a hybrid that is not."""
    predictor = make("gpt2", "words", Teacherless)
    assert not predictor.autoregressive
    dummy = predictor.objective.dummy_token_id
    for row, (prompt, _) in zip(predictor.free(columns).tolist(), texts(columns, columns["path"]), strict=True):
        ids = predictor.tokenizer(prompt).input_ids
        logits = predictor.model(torch.tensor([ids + [dummy] * LENGTH])).logits[0, len(ids) - 1 : -1]
        assert row == answer_in(predictor.tokenizer.decode(logits.argmax(dim=-1).tolist()))
    with pytest.raises(ValueError, match="Teacherless decodes all positions at once"):
        predictor.continued(columns, columns["path"], 2)
    hybrid = make("gpt2", "words", Hybrid)
    assert hybrid.autoregressive
    assert hybrid.free(columns).tolist() == by_hand(hybrid, columns, columns["path"], "free")
    assert hybrid.continued(columns, columns["path"], 2).tolist() == by_hand(
        hybrid, columns, columns["path"], "continued", symbols=2
    )


def test_batches_do_not_matter(make, columns):
    """Catches: rows lost or doubled at the end of a batch."""
    predictor = make("gpt2", "bpe")
    for size in (1, 10, 500):
        other = ModelPredictor(predictor.model, predictor.tokenizer, predictor.objective, TASK, batch_size=size)
        assert np.array_equal(other.free(columns), predictor.free(columns))
        assert np.array_equal(other.forced(columns, columns["path"]), predictor.forced(columns, columns["path"]))


def test_what_the_objective_says(make):
    """Catches: a predictor that hides the order, or which positions were trained, from the diagnosis."""
    predictor = make("gpt2", "words", order="reversed")
    assert (predictor.autoregressive, predictor.order, predictor.trained_positions) == (True, "reversed", None)
    decision_only = NextToken.from_tokenizer(predictor.tokenizer, positions=(2,))
    assert ModelPredictor(predictor.model, predictor.tokenizer, decision_only, TASK).trained_positions == (2,)


def test_dropout_is_off_and_comes_back(make, columns):
    """Catches: predictions with dropout, and a training run that goes on without it after an evaluation."""
    predictor = make("gpt2", "words", dropout=0.5)
    calm = predictor.free(columns)
    predictor.model.train()
    assert np.array_equal(predictor.free(columns), calm)
    assert predictor.model.training
    with pytest.raises(ValueError, match="cannot write"):
        predictor.forced(columns, columns["path"] + 100)
    assert predictor.model.training


def test_positions_beyond_the_tokens_count(make, columns):
    """Catches: a model that has the positions of the tokens alone, found out in the middle of a diagnosis."""
    tokenizer = make("gpt2", "words").tokenizer
    objective = Insertion.from_tokenizer(tokenizer)
    positions = make("gpt2", "words").longest(columns) + 1
    model = load_model("gpt2-1x16", tokenizer, positions)
    objective.attach(model)
    predictor = ModelPredictor(model, tokenizer, objective, TASK)
    assert predictor.longest(columns) == positions
    assert predictor.free(columns).shape == columns["path"].shape


def test_a_model_with_fewer_ids_than_its_tokenizer(columns):
    """Catches: an IndexError of torch, for a model to which tokens were to be added."""
    tokenizer = word_level_tokenizer(TASK)
    small = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=64, n_embd=8, n_layer=1, n_head=1))
    predictor = ModelPredictor(small, tokenizer, NextToken.from_tokenizer(tokenizer), TASK)
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel knows ids below 8. After .*resize_token_embeddings"):
        predictor.free(columns)


@every_kind
def test_longest_instance(kind, make, columns):
    """Catches: a model with too few positions that is found out only by a crash."""
    predictor = make("gpt2", kind)
    pairs = texts(columns, columns["path"])
    lengths = [sum(len(predictor.tokenizer(text).input_ids) for text in pair) for pair in pairs]
    assert predictor.longest(columns) == max(lengths)
    assert (min(lengths) < max(lengths)) == (kind == "bpe")


# ---------------------------------------------------------------- answers that differ in length

COUNT, STARTS = Countdown(), [3, 1, 4, 2, 4, 1]
END_ID, COUNT_SYMBOLS = 6, 8
"""Word-level ids of `Countdown(4)`: 0 to 4 are themselves, `=` is 5, `.` is 6, `$` is 7, `[PAD]` is 8."""


@pytest.fixture(scope="module")
def counting():
    """`counting(order, seed)`: an untrained predictor of a `Countdown`, another one for each seed."""

    @functools.cache
    def predictor(order, seed=0):
        torch.manual_seed(seed)
        tokenizer = word_level_tokenizer(COUNT)
        model = load_model("gpt2-1x16", tokenizer, 16, SMALL["gpt2"])
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.7)
        objective = NextToken.from_tokenizer(tokenizer, order=order)
        assert objective.end_token_id == END_ID
        return ModelPredictor(model.eval(), tokenizer, objective, COUNT, batch_size=4)

    return predictor


def ended(ids, order):
    """Symbols in the task's order up to the end, -2 for what is none, and -1 behind them, five in all."""
    shown = ids[: ids.index(END_ID)] if END_ID in ids else ids
    symbols = [i if i in range(7) else -2 for i in turned(shown, order)]
    return symbols + [-1] * (5 - len(symbols))


@every_way
@torch.no_grad()
def test_free_answers_end_by_themselves(order, counting):
    """Catches: the length of the right answer told to the model, what it writes behind its end read, an end that comes
    first in reversed order, nothing and no symbol mixed up."""
    lengths = set()
    for seed in range(6):
        predictor = counting(order, seed)
        found = predictor.free(counted(*STARTS)).tolist()
        assert found == [ended(greedy(predictor.model, [start, 5], 5), order) for start in STARTS]
        lengths |= {sum(symbol != -1 for symbol in row) for row in found}
    assert len(lengths) > 2


@every_way
@torch.no_grad()
def test_free_positions_are_those_of_generation(order, counting):
    """Catches: a reversed answer that ends too soon or too late, and is said to be wrong at every position."""
    seen = 0
    for seed in range(30):
        predictor = counting(order, seed)
        observed = Observations(predictor, COUNT, counted(*STARTS))
        for row, start in enumerate(STARTS):
            written, found = turned([*range(start, 0, -1)], order), greedy(predictor.model, [start, 5], 5)
            shown = found[: found.index(END_ID)] if END_ID in found else found
            right = [shown[k : k + 1] == [symbol] for k, symbol in enumerate(written)]
            assert observed.free.right[row, :start].tolist() == turned(right, order)
            placed = turned((shown + [-1] * start)[:start], order)
            assert observed._in_place(observed.free_symbols)[row, :start].tolist() == [
                i if i in range(-1, 7) else -2 for i in placed
            ]
            seen += any(right) and len(shown) != start
    assert seen >= 3


@every_way
@torch.no_grad()
def test_forced_answers_that_differ_in_length(order, counting):
    """Catches: ends counted as symbols; positions of a shorter answer in reversed order counted from the longest's."""
    predictor = counting(order)
    found = predictor.forced(counted(*STARTS), counted(*STARTS)["answer"]).tolist()
    for row, start in zip(found, STARTS, strict=True):
        written = turned([*range(start, 0, -1)], order)
        logits = predictor.model(torch.tensor([[start, 5, *written]])).logits[0, 1:-1]
        best = turned(logits.argmax(dim=-1).tolist(), order)
        assert row == [label(predictor.tokenizer.decode([i])) if i < 5 else row[k] for k, i in enumerate(best)] + [
            -1
        ] * (4 - start)


@every_way
@torch.no_grad()
def test_answers_are_continued_from_a_place_of_each_row(order, counting):
    """Catches: one number of given symbols for all rows, those of a neighbour, given symbols that stand behind the
    end."""
    predictor = counting(order, 3)
    columns, given = counted(*STARTS), np.array([2, 1, 3, 1, 4, 1])
    found = predictor.continued(columns, columns["answer"], given).tolist()
    for row, start, number in zip(found, STARTS, given.tolist(), strict=True):
        written = turned([*range(start, 0, -1)], order)[:number]
        assert row == ended(written + greedy(predictor.model, [start, 5, *written], 5 - number), order)


@torch.no_grad()
def test_candidates_of_shorter_answers(counting):
    """Catches: a crash, or candidates of an end, at a position that the answer does not have."""
    found = counting("forward").candidates(counted(*STARTS), counted(*STARTS)["answer"], top=2)
    assert [len(row) for row in found] == STARTS
