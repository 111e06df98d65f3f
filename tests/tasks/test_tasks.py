"""What every task must keep to. A new one is found in TASKS; it adds its line to GOLDEN.

`pytest tests/tasks/test_tasks.py --task my_module.MyTask` asks it of a task of your own, and of what it leaves at the
base class's default only that the default says so.
"""

import contextlib
import dataclasses
import hashlib
import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.tasks import TASKS, find_task
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS, SPLITS
from nt_failures.tasks.path_star import PathStar

TRIALS = [f"own_tasks.{name}" for name in ("OffCentre", "AnyOrder", "Few", "Copy")]
"""Tasks unlike ours: a decision that moves and answers that end, several right answers, few problems."""

GOLDEN = {
    "path_star": "89ec2a3228a20c0331849cee82a4ac6c219ad4d935386c33e1fbb7d6f242ccda",
    "tree_star": "ed7cd10a8de9c063473b450a32de94fb400195ac670ec72129f2ff43fed7c589",
    "unequal_star": "7f532234eeeb944837f579969ec69eca366a530da1b40d3272feb789a5a8d9db",
    "addition": "b7a4517179cf72463093700dc30f484797f5e2ec41cb1371b9a9cbf5ef564bda",
    "countdown": "589b682068dc57dd2979b559b473e444c34f72667160dc9762506ff0118a7d9e",
    "hops": "6e72302d9b9897fbf7b000e027ba6942348a542852a51a2386938e3f5997971b",
    "in_weights_star": "60f5d15ae353abd095227322aaa1a34c8776b6279743232ae87adcecf4a4816e",
    "siblings": "db2f9191043234fb84217bd0f44039f5fd51c8e7695f98ecc0d1e229025df643",
    "sort": "284b5d83c9d8be3d123c4f2d6bfb47c8e573f52b27cc0ef9a7dbccb056aa19b5",
}
"""SHA-256 of the first train block of seed 0, default parameters: columns, then text."""


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        own = metafunc.config.getoption("--task")
        metafunc.parametrize("name", [own] if own else [*TASKS, *TRIALS])


@pytest.fixture
def task(name):
    return find_task(name)()


def _own(task, method):
    """Whether the task has this method from elsewhere than the base class."""
    return getattr(type(task), method) is not getattr(Task, method)


def _answers(task, columns):
    """The right answers as lists, each as long as its row's is."""
    return [row[:length] for row, length in zip(task.answers(columns).tolist(), task.lengths(columns), strict=True)]


def _same(a, b):
    return all(np.array_equal(a[column], b[column]) for column in a)


def _rows(task, count=200):
    columns = {name: column[:count] for name, column in task.block(0, "train", 0).items()}
    return columns, {name: text.to_list() for name, text in task.texts(columns).items()}


def test_block_is_a_function_of_its_arguments(task):
    """Catches: a generator kept in the task, a seed taken from the clock, arguments that are ignored."""
    first = task.block(0, "train", 0)
    assert {len(column) for column in first.values()} == {BLOCK_ROWS} == {4096}
    assert _same(first, task.block(0, "train", 0))
    for other in [(1, "train", 0), (0, "test", 0), (0, "train", 1)]:
        assert not _same(first, task.block(*other)), other
    assert set(task.block(0, "train", 0)) == set(task.block(0, "test", 0)), "train_sample and sample differ in columns"


@pytest.mark.parametrize("overlap", ["forbid", "allow"])
def test_few_rows_are_the_first_of_their_block(task, overlap):
    """Catches: rows that depend on how many are asked for."""
    block = task.block(2, "test", 1, overlap)
    for rows in (0, 1, 10, 3000, BLOCK_ROWS + 1):
        few = task.block(2, "test", 1, overlap, rows)
        assert {len(column) for column in few.values()} == {min(rows, BLOCK_ROWS)}
        assert _same(few, {name: column[:rows] for name, column in block.items()})
        assert {name: column.dtype for name, column in few.items()} == {n: c.dtype for n, c in block.items()}


def test_seeds_do_not_add_up(task):
    """Catches: seed + index arithmetic, by which block 1 of seed 0 is block 0 of seed 1."""
    assert not _same(task.block(0, "train", 1), task.block(1, "train", 0))


def test_first_block_is_the_committed_one(name, task):
    """Catches: data changed by accident. A wanted change needs a new VERSION and a new hash here."""
    columns, digest = task.block(0, "train", 0), hashlib.sha256()
    for key, column in sorted(columns.items()):
        digest.update(f"{key} {column.dtype.str} {column.shape}".encode())
        digest.update(column.tobytes())
    for key, text in sorted(task.texts(columns).items()):
        digest.update(key.encode())
        digest.update(text.data.tobytes())
        digest.update(text.offsets.tobytes())
    if name in TASKS:
        assert GOLDEN.get(name) == digest.hexdigest(), f"if this is meant, put {name!r} and this hash into GOLDEN"


def test_splits_are_disjoint_for_all_seeds(task):
    """Catches: splits told apart by their random stream only, which share instances by chance."""
    hashes = {}
    for seed in (0, 1):
        for split in SPLITS:
            columns = task.block(seed, split, 0)
            assert set(task.split_of(columns)) == {split}
            hashes[seed, split] = set(task.split_hash(columns).tolist())
            of_problem = dict(zip(task.instance_hash(columns).tolist(), task.split_hash(columns).tolist(), strict=True))
            again = map(of_problem.get, task.instance_hash(columns).tolist())
            assert [*again] == task.split_hash(columns).tolist(), "one problem, several split hashes"
    for (_, split), mine in hashes.items():
        for (_, other_split), other in hashes.items():
            assert split == other_split or not mine & other


def test_overlap_allow_draws_from_all_instances(task):
    """Catches: `overlap` that is ignored. Three quarters of all instances belong to train."""
    allowed = task.split_of(task.block(0, "test", 0, overlap="allow"))
    assert len(set(allowed)) > 1
    if len(set(task.split_hash(task.block(0, "test", 0, overlap="allow")).tolist())) > 1000:
        assert 0.70 < np.mean(allowed == "train") < 0.80


def test_hash_sees_the_row_alone(task):
    """Catches: a hash that depends on the neighbours or the place of a row: a filtered row then changes its split."""
    columns = task.block(0, "train", 0)
    order = np.random.default_rng(0).permutation(BLOCK_ROWS)[:100]
    for hash_of in (task.instance_hash, task.split_hash):
        hashes = hash_of(columns)
        assert np.array_equal(hash_of({k: v[order] for k, v in columns.items()}), hashes[order])
        assert hashes.dtype == np.uint64
        assert hashes.shape == (BLOCK_ROWS,)


def test_text_reads_back_as_the_row(task):
    """Catches: render and parse that disagree, or a column that the text does not hold."""
    columns, texts = _rows(task)
    if not _own(task, "parse"):
        with pytest.raises(ValueError, match="has no `parse`"):
            task.parse(texts["prompt"][0])
        return
    for i, (prompt, completion) in enumerate(zip(texts["prompt"], texts["completion"], strict=True)):
        row = {key: column[i].tolist() for key, column in columns.items()}
        read = task.parse(prompt + completion)
        assert {key: np.asarray(value).tolist() for key, value in read.items()} == row
        question = {key: value for key, value in task.parse(prompt).items() if value is not None}
        assert {key: np.asarray(value).tolist() for key, value in question.items()}.items() <= row.items()
        assert len(question) < len(row), "the prompt tells the answer"


def test_a_chat_model_is_told_what_to_do(task):
    """Catches: a task without words; words that are no single line, or hold tags that belong to the answer."""
    words = task.instruction
    assert words == " ".join(words.split())
    assert len(words) > 20
    assert "<answer>" not in words


def test_judge_accepts_the_true_answers_and_no_others(task):
    """Catches: a judge that compares with the wrong row, or calls everything right."""
    columns, texts = _rows(task)
    answers = [task.read_answer(text) for text in texts["completion"]]
    right = task.judge(columns, answers)
    assert right["correct"].shape == (200, task.answer_length)
    assert np.array_equal(right["correct"], np.arange(task.answer_length) < task.lengths(columns)[:, None])
    assert right["exact"].all()
    assert not right["first_error"].any()
    turned = answers[1:] + answers[:1]
    same = np.array([a == b for a, b in zip(answers, turned, strict=True)])
    assert not same.all()
    for wrong, may in ((turned, same), ([a[:-1] for a in answers], 0 * same), ([[*a, -1] for a in answers], 0 * same)):
        judged = task.judge(columns, wrong)
        if task.one_answer or wrong is not turned:
            assert np.array_equal(judged["exact"], may)
        assert np.array_equal(judged["first_error"] == 0, judged["exact"])


def test_answers_are_those_of_the_text(task):
    """Catches: `answers` in another order or of another length than the completion."""
    columns, texts = _rows(task)
    assert task.answers(columns).shape == (200, task.answer_length)
    assert _answers(task, columns) == [task.read_answer(text) for text in texts["completion"]]


def test_other_answers_change_the_completion_alone(task):
    """Catches: `with_answers` that changes the question, or the caller's rows in place."""
    columns, texts = _rows(task)
    other = task.answers(columns)[::-1].copy()
    shown = {name: text.to_list() for name, text in task.texts(task.with_answers(columns, other)).items()}
    assert shown["prompt"] == texts["prompt"]
    assert shown["completion"] == texts["completion"][::-1]
    assert {name: text.to_list() for name, text in task.texts(columns).items()} == texts


def test_detours_go_wrong_at_the_decision(task):
    """Catches: a detour that is the right answer, that leaves earlier than stated, or that ignores its generator."""
    columns, _ = _rows(task)
    decisions = task.decisions(columns, "forward")
    columns, decisions = {k: v[decisions > 0] for k, v in columns.items()}, decisions[decisions > 0]
    if not _own(task, "detours"):
        with pytest.raises(ValueError, match="has no `detours`"):
            task.detours(columns, np.random.default_rng(0))
        return
    detours = task.detours(columns, np.random.default_rng(0))
    assert detours.shape == (len(decisions), task.answer_length)
    judged = task.judge(columns, [[symbol for symbol in row if symbol != -1] for row in detours.tolist()])
    assert np.array_equal(judged["first_error"], decisions)
    assert np.array_equal(detours, task.detours(columns, np.random.default_rng(0)))


def test_symbols_are_complete_and_the_dummy_is_free(task):
    """Catches: a symbol the word-level tokenizer will not know; a dummy that occurs in real text."""
    _, texts = _rows(task)
    tokenizer = word_level_tokenizer(task)
    for text in (text for column in texts.values() for text in column):
        ids = tokenizer(text).input_ids  # raises where it meets an unknown symbol
        assert "".join(task.symbols[i] for i in ids) == re.sub(r"[,\s]", "", text)
        assert task.symbols.index(task.DUMMY) not in ids
    assert task.symbols[-1] == task.DUMMY == "$"
    assert len(set(task.symbols)) == len(task.symbols)


def test_answers_have_the_stated_length(task):
    """Catches: an `answer_length` that counts characters or commas; rows that tell by their length where to stop."""
    columns, texts = _rows(task)
    ended = task.END in task.symbols
    lengths, tokenizer = task.lengths(columns), word_level_tokenizer(task)
    for text, length in zip(texts["completion"], lengths.tolist(), strict=True):
        assert len(task.read_answer(text)) == length
        assert len(tokenizer(text).input_ids) == task.answer_length + ended
    assert (lengths >= 1).all()
    assert ended or (lengths == task.answer_length).all()


def test_stated_facts_are_in_range(task):
    """Catches: a chance in percent; a decision position counted from 0 or beyond the answer."""
    columns, _ = _rows(task)
    for order in ("forward", "reversed"):
        decisions, guess = task.decisions(columns, order), task.guess(columns, order)
        assert decisions.shape == guess.shape == (200,)
        assert ((decisions >= 0) & (decisions <= task.lengths(columns))).all()
        assert ((guess > 0) & (guess <= 1)).all()


def test_the_choices_are_what_a_guess_chooses_among(task):
    """Catches: choices without the right one, some that no edge leads to, more or fewer than chance is the share of."""
    columns, _ = _rows(task)
    for order in ("forward", "reversed"):
        if (choices := task.choices(columns, order)) is not None:
            decisions, guess = task.decisions(columns, order), task.guess(columns, order)
            some = np.flatnonzero((decisions > 0) & (guess < 1))
            right = task.answers(columns)[some, decisions[some] - 1]
            assert (choices[some] == right[:, None]).sum(axis=1).tolist() == [1] * len(some)
            counts = (choices[some] >= 0).sum(axis=1)
            assert 1 / counts == pytest.approx(guess[some])
            assert [len({*row} - {-1}) for row in choices[some].tolist()] == counts.tolist()


def test_no_rows_are_rows_too(task):
    """Catches: reshapes that fail for n = 0; the builder learns the column types from it."""
    columns = task.sample(np.random.default_rng(0), 0)
    full = task.block(0, "train", 0)
    assert {k: (v.dtype, v.shape[1:]) for k, v in columns.items()} == {
        k: (v.dtype, v.shape[1:]) for k, v in full.items()
    }
    assert all(text.to_list() == [] for text in task.texts(columns).values())


def test_task_is_plain_data(task):
    """Catches: state that JSON, pickle (workers) or a frozen dataclass cannot carry."""
    assert type(task)(**json.loads(json.dumps(task.to_dict()))) == task
    assert pickle.loads(pickle.dumps(task)) == task
    assert hash(task) == hash(type(task)())
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.VERSION = "0"


def test_config_name_tells_parameters_apart(task):
    """Catches: a parameter missing in `config_name`, by which two sizes share one cache folder."""
    for field in dataclasses.fields(task):
        value = vars(task)[field.name]
        if type(value) is int:
            with contextlib.suppress(ValueError):  # a size next to the default that does not fit
                assert dataclasses.replace(task, **{field.name: value + 1}).config_name != task.config_name


@pytest.mark.parametrize(
    ("arguments", "given", "repair"),
    [
        ((0, "dev", 0), "split='dev'", "'train', 'validation', 'test'"),
        ((-1, "train", 0), "seed=-1", ">= 0"),
        (("0", "train", 0), "seed='0'", ">= 0"),
        ((0, "train", 0, "no"), "overlap='no'", "'forbid'"),
        ((0, "train", 0, "allow", 1.5), "rows=1.5", ">= 0"),
    ],
)
def test_block_refuses_bad_arguments(task, arguments, given, repair):
    """Catches: an unknown split that quietly draws something, or an error that does not say what to type."""
    with pytest.raises(ValueError) as error:
        task.block(*arguments)
    assert given in str(error.value)
    assert repair in str(error.value)


class _Derived(PathStar):
    pass


def test_source_hash_sees_base_classes(monkeypatch):
    """Catches: a cache that outlives a change in the file of a task that another one derives from."""
    assert _Derived.source_hash() not in (PathStar.source_hash(), Task.source_hash())
    before, read, changed = _Derived.source_hash(), Path.read_bytes, Path(sys.modules[PathStar.__module__].__file__)
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == changed))
    assert _Derived.source_hash() != before
