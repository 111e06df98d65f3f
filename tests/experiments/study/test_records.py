"""Records: which seeds make an entry, its figures by hand, and the test against the next one."""

import itertools
import json

import pytest
from study_records import lost, record

from nt_failures.experiments.study import records

TIMES = [500, 750, 500, 1000, 750, 500, 750, 1250, 500, 750]


def lines(recipe="fast", times=TIMES, seeds=None, **changes):
    """Runs of 2,000 steps and 1e12 FLOPs that solved G(2, 4) at these steps; None for one that never did."""
    made = []
    for seed, time in zip(seeds or range(len(times)), times, strict=True):
        exact = 0.5 if time is None else 0.99
        line = record(recipe, seed, exact, curve=[(250, 0.5), (time or 500, exact)], **changes)
        line["arguments"] = {
            "task": {"degree": 2, "path_length": 4, "num_nodes": 10},
            "data": {"task": "path_star"},
            "model": {"model": "gpt2-4x64"},
            "objective": {"objective": "next_token", "order": "forward"},
            "training": {"seed": seed, "max_steps": 2000, "per_device_train_batch_size": 32},
        }
        made.append(line | {"versions": {"commit": "0123456789abcdef and uncommitted changes"}})
    return made


def with_data(**data):
    """Runs whose rows differ from a task's own held-out ones."""
    return [line | {"arguments": line["arguments"] | {"data": {"task": "path_star", **data}}} for line in lines()]


def study(folder, *groups, diverged=()):
    folder.mkdir()
    for name, rows in (("results.jsonl", itertools.chain(*groups)), ("diverged.jsonl", diverged)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_figures_by_hand(tmp_path):
    """Catches: means for medians, the FLOPs of the whole training, the slower first, a p of other runs, a log's name
    that does not lead there."""
    fast = lines()
    for line in fast:
        line["arguments"]["objective"]["order"] = "reversed"
    study(tmp_path / "one", lines("slow", [time + 250 for time in TIMES], flops=2e11), fast)
    (first, second) = records.entries(tmp_path)
    assert (first.recipe, second.recipe) == ("fast", "slow")
    assert (first.steps, first.problem) == (TIMES, "path_star, deg2-path4-nodes10")
    assert first.flops == [1e12 * time / 2000 for time in TIMES]
    p = records.rank_sum_p(TIMES, [time + 250 for time in TIMES])
    assert records.tables([first, second], tmp_path).splitlines()[4:] == [
        "| fast | gpt2-4x64, 32 | next_token, reversed | steps | 10 of 10 [72%] | 750 (500 to 1,250) | 3.75e+11 "
        f"| {p:.3g} | 0123456+ | [one/results.jsonl](one/results.jsonl) |",
        "| slow | gpt2-4x64, 32 | next_token, forward | FLOPs | 10 of 10 [72%] | 1,000 (750 to 1,500) | 1.00e+11 "
        "| - | 0123456+ | [one/results.jsonl](one/results.jsonl) |",
        "",
    ]


def test_another_problem_is_another_table(tmp_path):
    """Catches: records of one graph held against those of another."""
    small = lines("small")
    for line in small:
        line["arguments"]["task"] = {"degree": 2, "path_length": 3, "num_nodes": 10}
    study(tmp_path / "one", lines(), small)
    text = records.tables(records.entries(tmp_path), tmp_path)
    assert text.count("### ") == 2
    assert text.count("| steps, FLOPs |") == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"groups": [lines(times=TIMES[:9])]},
        {"groups": [lines(seeds=[*range(9), 10])]},
        {"groups": [lines(times=[*TIMES[:9], None])]},
        {"groups": [lines(flops=None)]},
        {"groups": [lines()], "diverged": [lost(10, "fast")]},
        {"groups": [lines(seeds=range(1, 11))]},
        {"groups": [lines(trained_positions=[1])]},
        {"groups": [with_data(overlap="allow")]},
        {"groups": [with_data(test_file="mine.jsonl")]},
    ],
    ids=[
        *("nine", "a seed left out", "one not solved", "no FLOPs", "one diverged", "first seeds left out"),
        *("one position trained", "splits that share rows", "rows of a file"),
    ],
)
def test_what_is_no_entry(tmp_path, bad):
    """Catches: a record from picked, few or failed seeds, of a part of the answer, or of other test rows."""
    study(tmp_path / "one", *bad["groups"], diverged=bad.get("diverged", ()))
    assert records.entries(tmp_path) == []
    assert records.tables([], tmp_path).startswith("None yet")


def test_no_entry_of_another_definition(tmp_path):
    """Catches: a record of runs of a task that is defined otherwise now."""
    study(tmp_path / "one", [line | {"versions": {"task": "0.0.1"}} for line in lines()])
    with pytest.raises(ValueError, match=r"of version 0\.0\.1 of path_star, which is version"):
        records.entries(tmp_path)


def test_a_seed_that_was_run_again_and_finished_has_not_diverged(tmp_path):
    """Catches: a study that went on after a mended cause, and is refused for ever."""
    study(tmp_path / "one", lines(), diverged=[lost(3, "fast"), lost(10, "other")])
    assert len(records.entries(tmp_path)) == 1


def test_who_is_evaluated_more_often_is_not_faster_for_it(tmp_path):
    """Catches: a p that calls runs which solve it within the same 250 steps different, as one looks each 50."""
    fine = [dict(line, learning_curve=None) for line in lines("fine", [250] * 10)]
    for line, solved_at in zip(fine, [50, 100, 150, 200, 250] * 2, strict=True):
        line["learning_curve"] = [
            {"step": step, "free/exact": 0.5 if step < solved_at else 0.99} for step in (0, 50, 100, 150, 200, 250)
        ]
    coarse = [dict(line, learning_curve=[{"step": 250, "free/exact": 0.99}]) for line in lines("coarse")]
    study(tmp_path / "one", fine, coarse)
    first, second = records.entries(tmp_path)
    assert (first.steps, second.steps) == ([50, 100, 150, 200, 250] * 2, [250] * 10)
    assert "| 1 | 0123456+ |" in records.tables([first, second], tmp_path)


def test_the_share_that_is_solved_at_least_is_rounded_down(tmp_path):
    """Catches: 12 of 12 said to be at least 76 %, where the interval begins at 75.7 %."""
    found = record()["diagnosis"] | {"clever_hans": None}
    study(tmp_path / "one", lines(times=[*TIMES, 500, 750], diagnosis=found))
    assert "| 12 of 12 [75%] |" in records.tables(records.entries(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("first", "second"), [([1, 2, 3], [4, 5, 6]), ([5, 5, 1, 2], [5, 7, 2, 9]), ([3, 3], [3, 3]), ([1], [2, 3, 4])]
)
def test_p_of_the_rank_sum(first, second):
    """Catches: one side for two, ties by their order, a p that is drawn. Every exchange is counted by a raw loop."""
    values = sorted([*first, *second])
    ranks = [values.index(v) + (values.count(v) + 1) / 2 for v in (*first, *second)]
    middle = sum(ranks) * len(first) / len(ranks)
    far = abs(sum(ranks[: len(first)]) - middle)
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, len(first))]
    exact = sum(abs(one - middle) >= far - 1e-9 for one in sums) / len(sums)
    assert records.rank_sum_p(first, second) == pytest.approx(exact, abs=1e-12)
