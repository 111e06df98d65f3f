"""`lookahead_tokens` against a plain loop over rows, by the description of arXiv 2504.11336."""

from collections import Counter

import pytest
import torch

from nt_failures.data.batches import IGNORE
from nt_failures.hub.load import load
from nt_failures.objectives import LookaheadTokens, NextToken

X, OPEN, CLOSE, PAD = IGNORE, 15, 16, 14
TOKENS = {"open_token_id": OPEN, "close_token_id": CLOSE, "pad_token_id": PAD}
ROWS = [
    {"prefix_ids": [1, 2, 3], "target_ids": [7, 8, 9, 10]},
    {"prefix_ids": [4], "target_ids": [5, 6]},
    {"prefix_ids": [4, 1], "target_ids": [3]},
]


def ways(target):
    """Each target with a span inserted, of all d < k <= l, with its chance if d, k and l are drawn uniformly."""
    found, length = Counter(), len(target)
    for d in range(1, length):
        for k in range(d + 1, length + 1):
            for last in range(k, length + 1):
                row = (*target[:d], OPEN, *target[k - 1 : last], CLOSE, *target[d:])
                found[row] += 1 / (length - 1) / (length - d) / (length - k + 1)
    return dict(found)


def test_a_batch_by_hand():
    """Two rows that can be drawn in one way alone, and one that is too short for a span.

    Catches: a loss on `<T>` or none on `</T>`, a span inserted into the prompt or at the end, a mask that hangs on the
    draws.
    """
    batch = LookaheadTokens(chance=1, **TOKENS).collate(ROWS[1:])
    assert batch["input_ids"].tolist() == [[PAD, 4, 5, OPEN, 6, CLOSE, 6], [4, 1, 3, PAD, PAD, PAD, PAD]]
    assert batch["labels"].tolist() == [[X, X, 5, X, 6, CLOSE, 6], [X, X, 3, X, X, X, X]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6]]
    batch = LookaheadTokens(chance=1, order="reversed", **TOKENS).collate(ROWS[1:2])
    assert batch["input_ids"].tolist() == [[4, 6, OPEN, 5, CLOSE, 5]]


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_all_ways_are_drawn_as_often_as_they_should(chance):
    """Catches: spans that begin before their place, end at a fixed one or are of one length; one draw for all rows of a
    batch; another share of rows; a row cut off where the longest span makes it longest."""
    torch.manual_seed(0)
    target, draws = ROWS[0]["target_ids"], 20_000
    batch = LookaheadTokens(chance=chance, **TOKENS).collate(ROWS[:1] * draws)
    assert batch["input_ids"].shape == (draws, 3 + 9)
    columns = batch["input_ids"][:, 3:]
    assert bool(batch["attention_mask"].all())
    assert torch.equal(batch["labels"][:, 3:], columns.masked_fill(columns.eq(OPEN) | columns.eq(PAD), IGNORE))
    found = Counter(tuple(i for i in row if i != PAD) for row in columns.tolist())
    expected = {row: chance * share for row, share in ways(target).items()}
    expected[tuple(target)] = 1 - chance
    assert set(found) == {row for row, share in expected.items() if share > 0}
    for row, share in expected.items():
        assert found[row] / draws == pytest.approx(share, abs=0.015)


def loss_of_a_row(model, prefix, target):
    """- sum of log p of each token but `<T>`, from the logits of one row without padding."""
    log_p = model(torch.tensor([[*prefix, *target]])).logits[0].log_softmax(dim=-1)
    return -sum(log_p[len(prefix) + i - 1, token] for i, token in enumerate(target) if token != OPEN)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_loss_is_that_of_a_plain_loop(family, tiny_model, tokenizer_for):
    """Catches: positions that leave the span out, padding that is seen, a count that is not that of the labels."""
    model = tiny_model(family, spread=0.5, known=tokenizer_for(LookaheadTokens)).double()
    torch.manual_seed(1)
    objective = LookaheadTokens(chance=0.7, **TOKENS)
    batch = objective.collate(ROWS * 4)
    loss, expected, count = objective.loss(model, batch), 0.0, 0
    for ids, row in zip(batch["input_ids"], ROWS * 4, strict=True):
        target = [i for i in ids[3:].tolist() if i != PAD]
        expected = expected + loss_of_a_row(model, row["prefix_ids"], target)
        count += len(target) - target.count(OPEN)
    assert int(batch["input_ids"].eq(OPEN).sum()) not in (0, 8)
    assert int(loss.count) == count
    torch.testing.assert_close(loss.sum, expected, rtol=1e-9, atol=1e-9)


def test_predictions_have_no_span_in_them(tiny_model, tokenizer_for):
    """Catches: a decoding that inserts, forced predictions of a row with a span."""
    model = tiny_model("gpt2", spread=0.5, known=tokenizer_for(LookaheadTokens))
    prefix, shown = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[7, 8, 9, 5]])
    for options in ({}, {"shown": shown}):
        expected = NextToken().decode(model, prefix, 4, **options)
        assert torch.equal(LookaheadTokens(chance=1, **TOKENS).decode(model, prefix, 4, **options), expected)


def test_a_run_has_its_tokens_and_positions_for_the_longest_row(finished):
    """G(2,4): 21 tokens of prompt and 4 of answer, to which `<T>`, a span of 3 and `</T>` may come.

    Catches: a model built for the rows of the test, which breaks on the first long span; tokens that are not saved.
    """
    run = load(str(finished("lookahead_tokens")))
    assert run.model.config.n_positions == 21 + 4 + 5
    ids = run.tokenizer.convert_tokens_to_ids(["<T>", "</T>"])
    assert ids == [run.objective.open_token_id, run.objective.close_token_id] == [15, 16]
    assert run.model.get_input_embeddings().num_embeddings == 17
    assert load(str(finished())).model.config.n_positions == 21 + 4


def test_its_tokens_are_asked_for(tokenizer, tokenizer_for):
    """Catches: two tokens under one id, an objective that inserts None."""
    known = tokenizer_for(LookaheadTokens)
    objective = LookaheadTokens.from_tokenizer(known)
    assert (objective.open_token_id, objective.close_token_id, objective.dummy_token_id) == (15, 16, None)
    with pytest.raises(ValueError, match="no single token for '<T>'"):
        LookaheadTokens.from_tokenizer(tokenizer)
    with pytest.raises(ValueError, match=r"uses the token '</T>' and was given no close_token_id.*from_tokenizer"):
        LookaheadTokens(open_token_id=15)
