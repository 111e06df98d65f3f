"""Decoding: against a loop without a cache, and against what evaluation claims from one forward pass."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, modeling_utils

from nt_failures.data.batches import IGNORE, layout
from nt_failures.objectives import NextToken, Teacherless, decoding

PAD, DUMMY = 14, 13
STEPS = 6

every_family = pytest.mark.parametrize("family", ["gpt2", "mamba", "gpt_neox", "llama", "mamba2"])
two_families = pytest.mark.parametrize("family", ["gpt2", "mamba"])


@torch.no_grad()
def loop(model, rows, steps):
    """Greedy decoding of each row alone, without padding, mask or cache: the whole input again for each token."""
    answers = []
    for row in rows:
        ids = list(row)
        for _ in range(steps):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        answers.append(ids[len(row) :])
    return answers


@pytest.fixture(scope="module")
def rows(ragged):
    """Prefixes of 15, 12 and 9 tokens."""
    return [example["prefix_ids"] for example in ragged]


@pytest.fixture(scope="module")
def padded(ragged):
    """The same, padded on the left."""
    parts = layout(ragged, PAD)
    return parts["prefix_ids"], parts["prefix_mask"]


def greedy(model, padded, steps=STEPS):
    return decoding.token_by_token(model, *padded, torch.full((len(padded[0]),), steps), PAD)


@every_family
def test_cached_decode_equals_a_loop_without_cache(family, tiny_model, rows, padded):
    """Catches: a Mamba cache fed with several tokens at once, padding seen or counted, positions off by some."""
    model = tiny_model(family, spread=0.5)
    expected = loop(model, rows, STEPS)
    assert len({tuple(answer) for answer in expected}) > len(rows) // 2
    assert greedy(model, padded).tolist() == expected


@every_family
def test_a_pad_token_may_be_written(family, tiny_model, rows, monkeypatch):
    """Catches: transformers' warning that a mask is missing, where a model that has learnt little writes the pad token
    behind prefixes of one length; a model that is left without its pad token."""
    model = tiny_model(family)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)  # so that it writes token 0
    model.config.pad_token_id, warnings = 0, []
    monkeypatch.setattr(modeling_utils.logger, "warning_once", lambda text, *_: warnings.append(text))
    model.warn_if_padding_and_no_attention_mask(torch.tensor([[0, 1]]), None)
    assert "attention_mask" in warnings.pop()
    ids = torch.tensor([row[:9] for row in rows])
    assert greedy(model, (ids, torch.ones_like(ids))).tolist() == [[0] * STEPS] * len(rows)
    assert warnings == []
    assert model.config.pad_token_id == 0


@every_family
def test_padded_batch_decodes_as_its_rows_alone(family, tiny_model, rows, padded):
    """Catches: rows that change with their neighbours' lengths, in all three ways of reading a model."""
    model = tiny_model(family, spread=0.5)
    lengths = torch.full((len(rows),), 3)
    shown = torch.tensor(loop(model, rows, 3))
    alone = [(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.int64)) for row in rows]
    for ways in zip(
        decoding.token_by_token(model, *padded, lengths, PAD),
        torch.cat([decoding.token_by_token(model, *one, lengths[:1], PAD) for one in alone]),
        decoding.one_pass(model, *padded, shown),
        torch.cat([decoding.one_pass(model, *one, shown[i : i + 1]) for i, one in enumerate(alone)]),
        strict=True,
    ):
        assert len({tuple(answer.tolist()) for answer in ways}) == 1
    together = decoding.parallel(model, *padded, lengths, DUMMY)
    assert torch.equal(together, torch.cat([decoding.parallel(model, *one, lengths[:1], DUMMY) for one in alone]))


@two_families
def test_one_pass_and_parallel_by_hand(family, tiny_model, rows, padded):
    """Catches: predictions one column off, the revealed token read back as its own prediction."""
    model = tiny_model(family, spread=0.5)
    revealed = [7, 8, 9]
    for shown, predicted in [
        (revealed, decoding.one_pass(model, *padded, torch.tensor([revealed] * len(rows)))),
        ([DUMMY] * 3, decoding.parallel(model, *padded, torch.tensor([3] * len(rows)), DUMMY)),
    ]:
        for row, answer in zip(rows, predicted.tolist(), strict=True):
            logits = model(torch.tensor([[*row, *shown]])).logits[0]
            p = len(row)
            assert answer == [int(logits[column].argmax()) for column in (p - 1, p, p + 1)]


@two_families
def test_each_row_gets_its_own_length(family, tiny_model, rows, padded):
    """Catches: a batch cut to its shortest row, -100 fed to the model, a short row that changes with longer ones."""
    model = tiny_model(family, spread=0.5)
    lengths = torch.tensor([3, 1, 2, 3, 1, 2, 3, 3])
    free = loop(model, rows, 3)
    expected = [answer[:n] + [IGNORE] * (3 - n) for answer, n in zip(free, lengths.tolist(), strict=True)]
    assert decoding.token_by_token(model, *padded, lengths, PAD).tolist() == expected
    assert decoding.one_pass(model, *padded, torch.tensor(expected)).tolist() == expected
    hidden = decoding.parallel(model, *padded, torch.tensor([3] * len(rows)), DUMMY).tolist()
    hidden = [answer[:n] + [IGNORE] * (3 - n) for answer, n in zip(hidden, lengths.tolist(), strict=True)]
    assert decoding.parallel(model, *padded, lengths, DUMMY).tolist() == hidden


@two_families
def test_decode_comes_back_in_the_tasks_order(family, tiny_model, rows, padded):
    """Catches: reversed answers judged as they were written, -100 reversed to the front."""
    model = tiny_model(family, spread=0.5)
    lengths = torch.tensor([3, 1, 2, 3, 1, 2, 3, 3])
    written = loop(model, rows, 3)
    expected = [answer[:n][::-1] + [IGNORE] * (3 - n) for answer, n in zip(written, lengths.tolist(), strict=True)]
    objective = NextToken(order="reversed", pad_token_id=PAD)
    assert objective.decode(model, padded[0], lengths, padded[1]).tolist() == expected
    assert objective.decode(model, torch.tensor([rows[0]]), 3).tolist() == [written[0][::-1]]
    parallel = Teacherless(order="reversed", dummy_token_id=DUMMY, pad_token_id=PAD)
    forward = Teacherless(dummy_token_id=DUMMY, pad_token_id=PAD).decode(model, padded[0], lengths, padded[1])
    assert torch.equal(parallel.reorder(parallel.decode(model, padded[0], lengths, padded[1])), forward)


# ---------------------------------------------------------------- exact = every forced argmax right


@pytest.fixture(scope="module")
def half_trained(tiny_model, examples, ragged):
    """A model that has learnt about half of its rows by heart, and all the rows."""
    made = {}

    def make(family):
        if family not in made:
            model = tiny_model(family)
            rows = [*ragged, *examples[8:24]]
            objective = NextToken(pad_token_id=PAD)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            parts = layout(rows, PAD)
            share = 0.0
            for step in range(1, 301):
                loss = objective.loss(model, objective.collate(rows))
                optimizer.zero_grad()
                (loss.sum / loss.count).backward()
                optimizer.step()
                if step % 2 == 0:
                    forced = decoding.one_pass(model, parts["prefix_ids"], parts["prefix_mask"], parts["target_ids"])
                    share = (forced == parts["target_ids"]).all(dim=1).float().mean().item()
                if share > 0.25:
                    break
            made[family] = model, parts
        return made[family]

    return make


@two_families
def test_exact_is_all_forced_argmaxes_right(family, half_trained):
    """Up to the first error both see the same input, so evaluation reads the free exact match from one forced pass.

    Catches: a forced pass that sees padding, the future or its own answer; a free decode that is not greedy.
    """
    model, parts = half_trained(family)
    prefix, mask, target = parts["prefix_ids"], parts["prefix_mask"], parts["target_ids"]
    forced = decoding.one_pass(model, prefix, mask, target)
    free = decoding.token_by_token(model, prefix, mask, target.ne(IGNORE).sum(dim=1), PAD)
    exact_forced, exact_free = (forced == target).all(dim=1), (free == target).all(dim=1)
    assert 0.1 < exact_free.float().mean() < 0.9
    assert torch.equal(exact_forced, exact_free)
    assert not torch.equal(forced, free)
    for row in range(len(target)):
        errors = (free[row] != target[row]).nonzero().flatten()
        first = int(errors[0]) + 1 if len(errors) else target.shape[1]
        assert forced[row, :first].tolist() == free[row, :first].tolist()


# ---------------------------------------------------------------- what a checkpoint brings along

SETTINGS = {
    "penalty": {"repetition_penalty": 9.0},
    "no repeats": {"no_repeat_ngram_size": 1},
    "suppressed": {"suppress_tokens": [*range(7)], "begin_suppress_tokens": [*range(7, 12)]},
    "bad words": {"bad_words_ids": [[i] for i in range(7)]},
    "forced ends": {"forced_eos_token_id": 3, "forced_bos_token_id": 4},
    "sampling": {"do_sample": True, "temperature": 50.0, "top_k": 3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "short": {"max_length": 16, "max_time": 1e-9},
    "end tokens": {"eos_token_id": [*range(10)]},
    "other output": {"return_dict_in_generate": True, "output_scores": True},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_checkpoints_own_settings_do_not_count(settings, tiny_model, rows, padded):
    """Catches: `generate` filling unset options from the model, so that "greedy" depends on the checkpoint."""
    model = tiny_model("gpt2", spread=0.5)
    own = GenerationConfig(**SETTINGS[settings])
    model.generation_config = own
    assert greedy(model, padded).tolist() == loop(model, rows, STEPS)
    assert model.generation_config is own


@two_families
def test_the_end_token_ends_nothing(family, tiny_model, rows, padded, tmp_path):
    """Catches: an answer cut, or a token never chosen, because a saved model calls one of the labels its end token."""
    model = tiny_model(family, spread=0.5)
    expected = loop(model, rows, STEPS)
    model.config.eos_token_id = model.generation_config.eos_token_id = expected[0][1]
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.generation_config.eos_token_id == expected[0][1]
    assert greedy(loaded, padded).tolist() == expected


def test_a_failed_decode_leaves_the_models_settings(tiny_model, padded):
    """Catches: a model whose own settings are gone after an interrupted evaluation."""
    model = tiny_model("gpt2")
    own = model.generation_config
    with pytest.raises(IndexError):
        decoding.token_by_token(model, padded[0] + 1000, padded[1], torch.full((8,), 3), PAD)
    assert model.generation_config is own


def test_tokens_of_an_objectives_own_stand_before_the_answer():
    """Catches: tokens behind what is given of the answer, hidden by padding, or in one column for all rows."""
    prefix = torch.tensor([[1, 2, 3, 4], [PAD, PAD, 5, 6]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    ids, mask = decoding.insert_tokens(prefix, 2, torch.tensor([0, 1]))
    assert ids.tolist() == [[1, 2, 3, 4, -1, -2], [PAD, PAD, 5, -1, -2, 6]]
    assert mask.tolist() == [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert all(torch.equal(found, same) for found, same in zip(decoding.insert_tokens(prefix, 0), prefix, strict=True))
