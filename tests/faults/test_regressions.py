"""One test for each thing that the fuzz tests found and that no other test names."""

import numpy as np
import pytest
import torch

from nt_failures import registry
from nt_failures.data.batches import layout
from nt_failures.data.tokenizer import encode_rows, word_level_tokenizer
from nt_failures.diagnosis import Evidence, learning_order
from nt_failures.diagnosis.figures import graph
from nt_failures.diagnosis.learning_order import learnt_at
from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.rewards import reward_exact_path
from nt_failures.experiments import output_dir
from nt_failures.experiments.command_line import parse
from nt_failures.hub.load import load
from nt_failures.models.load import load_model
from nt_failures.objectives import JointMultiToken, MultiTokenHeads, TokenOrder
from nt_failures.objectives.losses import upcoming
from nt_failures.tasks import find_task
from nt_failures.tasks._text import join_numbers
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 3, 10)
NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: PathStar(1, 60_000, 65_536), "59,999 edges, above"),
        (lambda: join_numbers(np.broadcast_to(np.array(99_999), (400_000, 1_000)), ","), "render fewer rows"),
        (lambda: TASK.judge(TASK.sample(np.random.default_rng(0), 1), [[1.5, 2, 3]]), "answer 1"),
        (lambda: TASK.block(0, [], 0), "split="),
        (lambda: TASK.block(0, "train", -1), "index=-1"),
        (lambda: reward_exact_path([None], ["1"]), "prompt 1 is no path-star prompt: None; give text"),
        (lambda: reward_exact_path([[{"role": "user"}]], ["1"]), "which one is the user's text"),
        (lambda: wilson(3, 2), "3 successes of 2"),
        (lambda: Evidence(10, "1", 0.5, 1, {1: 1.0}, {1: 1.0}), "every share a number"),
        (lambda: graph._places([(0, 1), (1, 1)], 0, 1), "or a circle"),
        (lambda: layout([{"prefix_ids": [1.5], "target_ids": [2]}], 0), "prefix_ids must be"),
        (lambda: layout([{"prefix_ids": [1], "target_ids": [-100, 2]}], 0), "target_ids must be"),
        (lambda: layout([{"prefix_ids": [1], "target_ids": [2], "target_positions": [1, 2]}], 0), "differ in length"),
        (lambda: TokenOrder(weight=NAN), "weight=nan"),
        (lambda: MultiTokenHeads(heads=10**9), "heads=1000000000"),
        (lambda: JointMultiToken(window=10**9), "window=1000000000"),
        (lambda: registry.import_own(".."), r"cannot import '\.\.': it is no module's name"),
        (lambda: find_task("a" * 9999), r"unknown name 'a{199}\.\.\. \(10001 characters\)"),
        (lambda: parse(["--use_cpu", "--model=--"]), "'--model=--' gives no value"),
        (lambda: parse(["--use_cpu", "--report_to=\x1b[2J"]), r"report_to=\\x1b\[2J: "),
        (lambda: load("x" * 5000), r"^'x{199}\.\.\. \(5002 characters\) is no folder, and no repository can"),
        (lambda: load(""), "^'' is no folder"),
        (lambda: load_model("a\n\nb", None, 8), r"^'a\\n\\nb' is no folder"),
        (lambda: output_dir.check(parse(["--use_cpu", "--output_dir=a\0b"])), r"output_dir 'a\\x00b' can be no folder"),
        (
            lambda: output_dir.check(parse(["--use_cpu", "--output_dir="])),
            r"output_dir '' can be no folder \(it is empty",
        ),
        (
            lambda: output_dir.check(parse(["--use_cpu", f"--output_dir={'x' * 999}"])),
            r"x\.\.\. \(1001 characters\) can be no",
        ),
    ],
)
def test_refused(call, reason):
    """Catches: what hung, filled the memory, counted wrongly or broke in Python's words."""
    with pytest.raises(ValueError, match=reason):
        call()


def test_nan_is_never_learnt():
    """Catches: `nan < 0.95`, which is false, taken for "reached"."""
    curve = [{"step": 1, "forced/position_1": NAN, "free/exact": NAN}]
    assert learning_order(curve)["step"] == {1: None}
    assert learnt_at([(1, NAN)]) is None


def test_blanks_between_symbols_count_as_commas():
    """Catches: `32 34 6` of which every token belongs to position 1."""
    rows = encode_rows(word_level_tokenizer(TASK), ["1"], ["3 4 6"])
    assert rows["target_positions"] == [[1, 2, 3]]


def test_huge_windows():
    """Catches: a window of 10**9 that is padded to its length, or whose scores differ by less than float32 holds."""
    labels = torch.tensor([[3, 1, 2]])
    assert torch.equal(upcoming(labels, 5, window=10**9), upcoming(labels, 5))
