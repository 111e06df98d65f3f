"""A study: the figures that its table is made of."""

import pytest
from study_records import lost, record, summarise

from nt_failures.diagnosis.learning_order import learnt_at
from nt_failures.experiments.study.summary import best_first, comparison_table, missing_note, study_table

GOOD = [0.5, 0.52, 0.54]


def solved(recipe="cure", seed=0, exact=0.99, step=1500, verdict="solved", **changes):
    made = record(recipe, seed, exact, "teacherless", [(500, 0.5), (step, 0.96), (2000, 0.99)], **changes)
    made["diagnosis"] = {
        "clever_hans": None,
        "decision_token": {"train_accuracy": 0.99},
        "verdict": {"name": verdict, "text": "A text.", "rule": "a rule"},
    }
    return made


# ---------------------------------------------------------------- figures by hand


@pytest.mark.parametrize(
    ("shares", "step"),
    [
        ([0.5, 0.96, 0.97], 200),
        ([0.96, 0.5, 0.95], 300),
        ([0.5, 0.96, 0.94], None),
        ([0.5, 0.949, 0.94], None),
        ([1.0], 100),
        ([], None),
    ],
)
def test_steps_to_solve(shares, step):
    """Catches: the best moment of a run taken for the time it needs; a threshold passed from below only."""
    assert learnt_at([(100 * i, share) for i, share in enumerate(shares, start=1)]) == step


def test_groups_by_hand():
    """Catches: runs of two recipes mixed, a mean over runs that did not solve, seeds counted as graphs, the steps
    of the shortest training given for all, a mean of the seeds' worst other positions."""
    runs = [record(seed=0, exact=0.5, steps=1000, curve=[(1000, 0.5)]), solved(seed=0)]
    runs += [record(seed=1, exact=0.52), solved(seed=1, exact=0.6, step=500)]
    runs[2]["metrics"]["forced/position_4"] = 0.8
    runs[3]["learning_curve"] = runs[3]["learning_curve"][:1]
    runs[3]["diagnosis"]["verdict"]["name"] = "undertrained"
    cure, hans = summarise(runs)
    assert hans == {
        "name": "hans",
        "some_positions": False,
        "seeds": 2,
        "diverged": 0,
        "n": 20_000,
        "chance": 0.5,
        "values": [0.5, 0.52],
        "exact": 0.51,
        "decision": 0.51,
        "others": 0.8,
        "follow_rates": [0.9, 0.91],
        "train_decision": 0.55,
        "gradients": [None, None, None],
        "solved": 0,
        "solve_interval": pytest.approx((0.0, 0.6576), abs=1e-4),
        "watched": True,
        "steps_to_solve": None,
        "times": [None, None],
        "ends": [1000, 2000],
        "flops_to_solve": None,
        "steps": 2000,
        "verdicts": ["clever-hans + indecipherable token"],
        "by_difficulty": {},
        "words": ("graph", "path", "wrong arm"),
        "creativity": None,
    }
    assert (cure["solved"], cure["steps_to_solve"], cure["follow_rates"]) == (1, 1500, [])
    assert (cure["times"], cure["flops_to_solve"]) == ([1500, None], 0.75e12)
    assert cure["others"] == 0.6  # of its own, parallel decoding
    assert cure["verdicts"] == ["solved", "undertrained"]


def shares(*points):
    return [{"step": step, "order": 2 * share, "auxiliary": share} for step, share in points]


def test_gradients_are_medians_by_step():
    """Catches: the end of a short run, or of one of 100 steps, among the shares behind 100 steps, one term's share in
    place of all, a mean."""
    runs = [
        record(seed=0, gradient_shares=shares((0, 1.0), (100, 0.5), (2000, 0.1))),
        record(seed=1, gradient_shares=shares((0, 2.0), (100, 0.7), (2000, 0.2))),
        record(seed=2, gradient_shares=shares((0, 9.0), (60, 0.9))),
    ]
    (group,) = summarise(runs)
    assert group["gradients"] == [2.0, 0.6, 0.2]
    (short,) = summarise(runs[2:])
    assert short["gradients"] == [9.0, None, 0.9]
    (hundred,) = summarise([record(gradient_shares=shares((0, 1.0), (100, 0.5)))])
    assert hundred["gradients"] == [1.0, None, 0.5]
    (none,) = summarise([record()])
    table = comparison_table(
        [{**each, "name": name, "rate": 1} for name, each in zip("abc", (group, short, none), strict=True)]
    )
    head, _, *rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert [row[head.index("gradient")] for row in rows] == ["2 / 0.6 / 0.2", "9 / - / 0.9", "-"]


def test_forced_accuracy_counts_where_the_cheat_was_not_measured():
    """Catches: on paths of three nodes, where it cannot be, look-ups of a next-token model judged by free decoding."""
    run = record()
    run["diagnosis"]["clever_hans"] = None
    assert summarise([run])[0]["others"] == 0.99


def test_solved_at_the_first_evaluation():
    """Catches: step 0, which a pretrained model may have, taken for never, in the order of a table, too."""
    run = solved() | {"recipe": "z"}
    run["learning_curve"] = [{"step": 0, "free/exact": 1.0}]
    groups = summarise([solved(), run])
    assert groups[-1]["steps_to_solve"] == 0
    assert [group["name"] for group in best_first(groups)] == ["z", "cure"]


def test_times_and_their_flops_are_medians():
    """Catches: a mean, which one late seed of three moves; FLOPs up to the best checkpoint spread over all steps of the
    training."""
    (group,) = summarise([solved(seed=seed, step=step, steps=1000) for seed, step in enumerate((600, 800, 1900))])
    assert (group["ends"], group["steps_to_solve"], group["flops_to_solve"]) == ([2000] * 3, 800, 0.8e12)


def test_the_share_of_solved_seeds_comes_first():
    """Catches: 2 of 4 seeds put before 1 of 1."""
    groups = summarise([solved("often"), solved("half", 0), solved("half", 1)], [lost(2, "half"), lost(3, "half")])
    assert [group["name"] for group in best_first(groups)] == ["often", "half"]


def test_a_time_is_of_a_solved_seed():
    """Catches: a time to solve of a run whose test says that it has not, or "none within 2,000 steps" of one that
    validation saw solved at 1,500; a time where nobody looked; the best checkpoint's step taken for the budget."""
    (below,) = summarise([solved(exact=0.949)])
    assert (below["solved"], below["steps_to_solve"], below["flops_to_solve"]) == (0, None, None)
    assert below["times"] == [1500]  # which is where the figure, whose axis is of validation graphs, has its dot
    assert "| 0 of 1 [0%, 79%] | - |" in study_table([below])
    curve = [{"step": step, "free/exact": 0.5} for step in (500, 1000, 2000)]
    (never,) = summarise([record("cure", 0, exact=0.5, steps=500, learning_curve=curve)])
    assert "| > 2,000 |" in study_table([never])
    (unseen,) = summarise([solved(learning_curve=[])])
    assert (unseen["solved"], unseen["steps_to_solve"]) == (1, None)
    assert "| 1 of 1 [21%, 100%] | - |" in study_table([unseen])
    (half,) = summarise([record(seed=0), record(seed=1, learning_curve=[])])
    assert "| 0 of 2 [0%, 66%] | - |" in study_table([half])


def test_diverged_seeds_count_as_not_solved():
    """Catches: a solve probability over the seeds that did not diverge; another recipe's seeds counted."""
    runs = [solved("hans"), solved("hans", seed=3)]
    (group,) = summarise(runs, [lost(1), lost(2), lost(0, recipe="never ended")])
    assert (group["solved"], group["seeds"], group["diverged"], group["values"]) == (2, 4, 2, [0.99, 0.99])
    assert group["solve_interval"] == pytest.approx((0.15, 0.85), abs=1e-3)
    assert (group["times"], group["ends"]) == ([1500, 1500], [2000, 2000])
    assert group["verdicts"] == ["solved", "diverged"]
    table = study_table([group])
    assert table.endswith("\nSeeds that diverged, counted as not solved and left out of the means: hans: 2.\n")
    assert "diverged" not in study_table(summarise(runs))


@pytest.mark.parametrize(("right", "interval"), [(1, "[0.3%, 9%]"), (59, "[91%, 99.7%]"), (0, "[0%, 6%]")])
def test_an_interval_says_nothing_or_everything_of_these_alone(right, interval):
    """Catches: `0 %` as the low end where a seed of 60 has solved it."""
    runs = [solved() if seed < right else record("cure", 0, exact=0.5) for seed in range(60)]
    assert f"| {right} of 60 {interval} |" in study_table(summarise(runs))


def test_a_median_may_lie_between_two_evaluations():
    """Catches: half a step rounded up here and down there."""
    runs = [solved(seed=0, learning_curve=[{"step": 250, "free/exact": 0.99}])]
    runs += [solved(seed=1, learning_curve=[{"step": 375, "free/exact": 0.99}])]
    assert "| 312.5 |" in study_table(summarise(runs))


def test_each_chance_is_told():
    """Catches: the chance of the first entry given for all, `-` where only that one has no decision."""
    groups = [{**group, "rate": 1} for group in summarise([record("a"), record("b")])]
    chances = [
        {**group, "chance": chance} for group, chance in zip([*groups, groups[0]], (None, 0.5, 0.2), strict=True)
    ]
    assert "Chance 50% or 20%." in comparison_table(chances)


def test_training_graphs_count_where_all_were_seen():
    """Catches: a decision said to be on training graphs, of which most were never trained on."""
    half = record()
    del half["diagnosis"]["decision_token"]["train_accuracy"]
    assert summarise([record(), half | {"seed": 1}])[0]["train_decision"] is None
    assert summarise([record(), record(seed=1)])[0]["train_decision"] == 0.55
    assert "| 99.0% | - | 90.0%" in study_table(summarise([half]))


TABLE = """\
| recipe | chance | exact, mean (range) | decision | others | on train | follows wrong arm | solved | \
steps to solve | verdict |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| cure | 50% | 99.0% | 99.0% | 60.0% | 99.0% | - | 1 of 1 [21%, 100%] | 1,500 | solved |
| hans | 50% | 52.0% (50.0% to 54.0%) | 52.0% | 99.0% | 55.0% | 91.0% (90.0% to 92.0%) | 0 of 3 [0%, 56%] | > 2,000 | \
clever-hans + indecipherable token |

n = 20,000 held-out graphs a run. """


def test_table():
    """Catches: a number in the wrong column; a group without its range, chance or the steps it was given."""
    groups = summarise([*(record(seed=seed, exact=exact) for seed, exact in enumerate(GOOD)), solved()])
    table = study_table(groups)
    assert table.startswith(TABLE)
    assert table.endswith("\n")
    assert len({line.count("|") for line in table.splitlines()[:4]}) == 1


def test_solved_on_test_alone_has_no_time():
    """Catches: "> 2,000: none within" beside "1 of 2" solved, of a seed that validation saw at 94.7 % at its end."""
    runs = [record(exact=0.955, curve=[(1000, 0.96), (2000, 0.947)]), record(seed=1)]
    assert "| 1 of 2 [9%, 91%] | - |" in study_table(summarise(runs))
    assert "| 0 of 1 [0%, 79%] | > 2,000 |" in study_table(summarise(runs[1:]))


def test_creativity_is_told():
    """Catches: a study that says who is right, and not who writes anything new."""
    runs = [record(seed=seed) for seed in (0, 1)] + [solved()]
    for run, share in zip(runs, (0.1, 0.2), strict=False):
        run["metrics"]["free/creativity"] = share
    groups = [{**group, "rate": 1.0} for group in summarise(runs)]
    for table in (study_table(groups), comparison_table(groups)):
        assert table.endswith("no train row and different), mean over seeds: hans: 15.0%.\n")
    assert "Creativity" not in study_table(summarise([record()]))


def test_decision_only_training_is_judged_by_the_decision():
    """Catches: a run that trained one position being scored 0 for the positions it never saw."""
    curve = [{"step": 500, "free/exact": 0.0, "forced/position_2": 0.97}]
    run = record("alone", trained_positions=[2], learning_curve=curve)
    run["metrics"] |= {"forced/position_2": 0.96, "decision": 0.96, "free/exact": 0.0}
    (group,) = summarise([run])
    assert (group["values"], group["some_positions"]) == ([0.96], True)
    assert group["steps_to_solve"] == 500
    assert group["others"] is None
    assert "| - |" in study_table([group])


def test_any_positions_are_judged_by_the_worst_of_them():
    """Catches: training without the decision scored by the decision, which it never saw, though the verdict is
    "solved"."""
    curve = [
        {"step": step, "free/exact": 0.0, "decision": 0.5, "forced/position_1": 1.0, "forced/position_3": share}
        for step, share in ((100, 0.9), (200, 0.96), (300, 0.99))
    ]
    run = record("alone", trained_positions=[1, 3], learning_curve=curve, exact=0.4)
    (group,) = summarise([run])
    assert (group["values"], group["solved"], group["steps_to_solve"]) == ([0.99], 1, 200)


def test_recipes_without_a_run_are_named():
    """Catches: a recipe that drops out of the table in silence."""
    missing = missing_note(["cure", "hans"], summarise([record()]))
    assert missing == "\nWithout a finished run, so not in the table: cure.\n"
    assert missing_note(["hans"], summarise([record()])) == ""
