"""A run measures once: rows are drawn once, the test is predicted once per decoding, and one verdict is given."""

import collections
import importlib

import datasets
import pytest

from nt_failures.experiments import run
from nt_failures.hub.run_results import RunResults
from nt_failures.objectives.base import Objective
from nt_failures.tasks.base import Task
from nt_failures.tasks.blocks import BLOCK_ROWS
from nt_failures.tasks.path_star import PathStar

diagnosing = importlib.import_module("nt_failures.diagnosis.diagnose")  # its function has the same name

TASK = PathStar(2, 4, 10)
ROWS = 40
FLAGS = [
    *("--degree", "2", "--path_length", "4", "--num_nodes", "10", "--model", "gpt2-1x16", "--use_cpu", "true"),
    *(
        "--num_train",
        "32",
        "--num_validation",
        "16",
        "--num_test",
        str(ROWS),
        "--max_steps",
        "4",
        "--eval_steps",
        "2",
        "--eval_strategy",
        "steps",
    ),
    *("--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "16", "--disable_tqdm", "true"),
]


class Counts:
    """How often each test row was asked for, by decoding, and each block of rows was drawn.

    A test row is known by its prompt's tokens, which are the label, `|`, `/` and `=` of a word-level vocabulary.
    """

    def __init__(self, monkeypatch):
        self.asked, self.verdicts = collections.Counter(), 0
        self.blocks = collections.Counter()
        tokens = {symbol: i for i, symbol in enumerate(TASK.symbols)}
        texts = TASK.render({name: column[:ROWS] for name, column in TASK.block(0, "test", 0).items()})
        prompts, completions = texts["prompt"].to_list(), texts["completion"].to_list()
        words = [
            p.replace("|", " | ").replace("/", " / ").replace("=", " =").replace(",", " ").split() for p in prompts
        ]
        self.targets = {
            tuple(tokens[w] for w in row): [tokens[w] for w in answer.split(",")]
            for row, answer in zip(words, completions, strict=True)
        }
        decode, block, verdict = Objective.decode, Task.block, diagnosing.verdict

        def counted_decode(objective, model, prefix_ids, length, prefix_mask=None, decoding=None, shown=None, given=0):
            for i, prefix in enumerate(map(tuple, prefix_ids.tolist())):
                if prefix in self.targets:
                    self.asked[self._kind(self.targets[prefix], decoding, None if shown is None else shown[i])] += 1
            return decode(objective, model, prefix_ids, length, prefix_mask, decoding, shown, given)

        def counted_block(task, seed, split, index, overlap="forbid", rows=BLOCK_ROWS):
            self.blocks[split, index, rows] += 1
            return block(task, seed, split, index, overlap, rows)

        def counted_verdict(*args):
            self.verdicts += 1
            return verdict(*args)

        monkeypatch.setattr(Objective, "decode", counted_decode)
        monkeypatch.setattr(Task, "block", counted_block)
        monkeypatch.setattr(diagnosing, "verdict", counted_verdict)

    @staticmethod
    def _kind(target, decoding, shown):
        if shown is None:
            return decoding or "free"
        return "forced" if sorted(shown.tolist()) == sorted(target) else "forced along a wrong arm"


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """`counted(*flags)`: a run, and what it asked and drew."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def make(name, *flags):
        with monkeypatch.context() as patch:
            counts = Counts(patch)
            counts.blocks.clear()
            run.main([*FLAGS, "--output_dir", str(tmp_path / name), *flags])
        return counts, RunResults.read(tmp_path / name)

    return make


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ([], {"forced": ROWS, "free": ROWS, "forced along a wrong arm": ROWS}),
        (["--order", "reversed"], {"forced": ROWS, "free": ROWS, "forced along a wrong arm": ROWS}),
        (["--objective", "teacherless"], {"forced": ROWS, "free": ROWS}),
        (["--objective", "hybrid"], {"forced": ROWS, "free": ROWS, "parallel": ROWS, "forced along a wrong arm": ROWS}),
    ],
    ids=["next_token", "reversed", "teacherless", "hybrid"],
)
def test_every_test_row_is_predicted_once_per_decoding(flags, asked, counted):
    """Catches: a second pass over the test for the diagnosis, its verdict, the figures or the card; a second
    verdict."""
    counts, results = counted("run", *flags)
    # Put on a wrong arm, rows go on from a longer prefix, which is no prompt of the test.
    assert counts.asked == asked
    assert counts.verdicts == 1
    assert results.n == ROWS


def test_every_block_is_drawn_once(counted):
    """Catches: rows drawn again to be measured, shown, diagnosed or asked for in the card."""
    first, _ = counted("first")
    again, _ = counted("again")
    drawn = {("train", 0, 32): 1, ("validation", 0, 16): 1, ("test", 0, ROWS): 1}
    looked_at = {(split, 0, 1): 1 for split, *_ in drawn}  # which a split without instances has not
    assert first.blocks == drawn | looked_at
    assert again.blocks == {}  # read from the cache


def test_all_figures_of_the_test_have_one_n(counted):
    """Catches: a table of the whole test above a verdict, a cheat or a decision of its first rows."""
    _, results = counted("run")
    found = results.diagnosis
    assert {found[claim]["n"] for claim in ("forced_vs_free", "decision_token", "clever_hans")} == {ROWS}
    choices = found["decision_token"]["choices"]
    assert (choices["n"], choices["right"]) == (ROWS, results.metrics["decision"])
    assert choices["right"] + choices["other"] + choices["none"] == pytest.approx(1)
    assert f"n = {ROWS}" in results.verdict["text"]
    assert found["forced_vs_free"]["exact"] == results.metrics["free/exact"]
    assert {int(k): v for k, v in found["forced_vs_free"]["forced"].items()} == results.accuracies.forced.positions
