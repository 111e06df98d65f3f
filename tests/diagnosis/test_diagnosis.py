"""The four claims and `diagnose`: by hand on four instances, and on planted models that must be told apart."""

import json
import re

import numpy as np
import pytest
from own_tasks import Fork
from planted import (
    CleverHans,
    DecisionOnly,
    Jumper,
    LastPlace,
    Memoriser,
    Parallel,
    Planner,
    ReversedGuesser,
    ReversedPlanner,
    Snowball,
    Table,
    Undertrained,
)
from stepwise import Stepwise
from task_checks import columns_of

from nt_failures.diagnosis import (
    Budget,
    by_place,
    clever_hans,
    decision_token,
    diagnose,
    forced_vs_free,
    learning_order,
    report,
)
from nt_failures.diagnosis.by_difficulty import by_difficulty
from nt_failures.diagnosis.report import findings
from nt_failures.evaluation.metrics import wilson
from nt_failures.evaluation.observations import Observations
from nt_failures.tasks.facts import Clue
from nt_failures.tasks.path_star import PathStar

SMALL = PathStar(2, 4, 10)
FOUR = columns_of(
    SMALL,
    "0,1|1,2|2,3|0,4|4,5|5,6/0,3=0,1,2,3",
    "9,8|8,7|7,6|9,1|1,2|2,3/9,6=9,8,7,6",
    "5,0|0,1|1,2|5,3|3,4|4,6/5,2=5,0,1,2",
    "7,2|2,4|4,8|7,3|3,5|5,9/7,8=7,2,4,8",
)
DETOURS = [[0, 4, 5, 6], [9, 1, 2, 3], [5, 3, 4, 6], [7, 3, 5, 9]]

LONG = PathStar(2, 5, 50)
RELEASED = columns_of(LONG, *["32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=32,34,6,16,12"] * 4)

TASK = PathStar(3, 5, 30)
N = 1000
QUARTER, HALF = pytest.approx([0.0456, 0.6994], abs=1e-4), pytest.approx([0.1500, 0.8500], abs=1e-4)
"""Wilson's intervals of 1 and of 2 out of 4."""


@pytest.fixture(scope="module")
def held_out():
    return {name: column[:N] for name, column in TASK.block(0, "test", 0).items()}


@pytest.fixture(scope="module")
def train():
    return {name: column[:N] for name, column in TASK.block(0, "train", 0).items()}


@pytest.mark.parametrize("claim", [forced_vs_free, decision_token, clever_hans], ids=lambda claim: claim.__name__)
def test_instances_of_another_task_or_none(claim, held_out):
    """Catches: shares of nothing, nan or a division by zero; a verdict on graphs of another size."""
    none = {name: column[:0] for name, column in held_out.items()}
    with pytest.raises(
        ValueError, match=r"'edges' has the shape \(0, 12, 2\), and PathStar.* needs \(n, 12, 2\) with n >= 1"
    ):
        claim(Observations(Planner(TASK), TASK, none))
    with pytest.raises(ValueError, match=r"needs \(n, 12, 2\) with n >= 1; give instances of this very task"):
        claim(Observations(Planner(TASK), TASK, FOUR))
    with pytest.raises(ValueError, match="'goal' has the shape None"):
        claim(Observations(Planner(TASK), TASK, {name: column for name, column in held_out.items() if name != "goal"}))


# ---------------------------------------------------------------- forced_vs_free


def test_forced_and_free_by_hand():
    """Catches: shares by row instead of by position, the first error taken for the last, positions off by one."""
    model = Table(
        forced=[[0, 1, 2, 3], [9, 1, 7, 6], [5, 0, 1, 2], [7, 3, 4, 9]],
        free=[[0, 1, 2, 3], [9, 1, 2, 3], [5, 0, 4, 2], [7, 3, 5, 8]],
    )
    assert forced_vs_free(Observations(model, SMALL, FOUR)) == {
        "n": 4,
        "rows": 4,
        "forced": {1: 1.0, 2: 0.5, 3: 1.0, 4: 0.75},
        "free": {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.75},
        "n_positions": {},
        "forced_others": {1: 1.0, 3: 1.0, 4: 0.75},
        "free_others": {1: 1.0, 3: 0.25, 4: 0.75},
        "exact": 0.25,
        "exact_interval": QUARTER,
        "forced_exact": 0.5,
        "snowball_prediction": 0.375,
        "snowball_without_decision": 0.75,
        "errors": 3,
        "first_error": {1: 0.0, 2: pytest.approx(2 / 3), 3: pytest.approx(1 / 3), 4: 0.0},
        "first_error_at_decision": pytest.approx(2 / 3),
    }
    assert model.asked == [("forced", FOUR["path"].tolist()), ("free",)]


def test_first_error_of_a_reversed_model_is_the_first_it_made():
    """Catches: reversed answers read from the source on; the forward decision blamed for a reversed model."""
    model = Table(
        forced=[[0, 1, 2, 3], [9, 8, 2, 6], [5, 0, 4, 2], [7, 3, 4, 8]],
        free=[[0, 1, 2, 3], [9, 8, 2, 6], [4, 0, 4, 2], [7, 3, 4, 8]],
        order="reversed",
    )
    found = forced_vs_free(Observations(model, SMALL, FOUR))
    assert found["first_error"] == {1: 0.0, 2: pytest.approx(1 / 3), 3: pytest.approx(2 / 3), 4: 0.0}
    assert found["first_error_at_decision"] == pytest.approx(2 / 3)
    assert found["snowball_without_decision"] == 0.75  # without position 3, the decision of the reversed order


def test_a_parallel_model_does_not_snowball(held_out):
    """Catches: the product of forced accuracies, which such a model never uses, said to be what snowballing
    predicts."""
    found = diagnose(Parallel(TASK, [1.0] * 5), TASK, held_out)
    measured = found["forced_vs_free"]
    assert (measured["snowball_prediction"], measured["snowball_without_decision"]) == (None, None)
    line = findings(found, TASK.words)[0]
    assert line.startswith("exact paths: 100.0 %")
    assert "snowballing" not in line


def test_no_errors_leave_no_first_error():
    """Catches: a division by zero, NaN in a JSON file, 0 % of no errors reported as if measured."""
    found = forced_vs_free(Observations(Planner(SMALL), SMALL, FOUR))
    assert (found["exact"], found["errors"], found["first_error_at_decision"]) == (1.0, 0, None)
    assert set(found["first_error"].values()) == {None}


def test_a_missing_plan_is_told_from_compounding_errors(held_out):
    """Catches: a measure that sees only that both models fail, with about the same exact accuracy."""
    hans = forced_vs_free(Observations(CleverHans(TASK), TASK, held_out))
    snow = forced_vs_free(Observations(Snowball(TASK, 0.2), TASK, held_out))
    assert hans["exact"] == pytest.approx(1 / 3, abs=0.05)
    assert snow["exact"] == pytest.approx(0.8**5, abs=0.05)
    assert (hans["snowball_without_decision"], hans["first_error_at_decision"]) == (1.0, 1.0)
    assert hans["exact"] == hans["forced"][2] == hans["forced_exact"]
    assert snow["snowball_prediction"] == pytest.approx(snow["exact"], abs=0.03)
    assert snow["snowball_without_decision"] < 0.5
    assert all(0.1 < share < 0.4 for share in snow["first_error"].values())
    assert snow["free"][4] < snow["forced"][4] - 0.1  # errors persist
    assert hans["forced"] == pytest.approx({1: 1.0, 2: hans["exact"], 3: 1.0, 4: 1.0, 5: 1.0})


# ---------------------------------------------------------------- decision_token


class TwoSets(Table):
    """At the decision of `FOUR` one is right and one on neither arm; all right on rows in another order; never right by
    free decoding."""

    def forced(self, columns, answers):
        wrong = np.array([[0, 1, 0, 0], [9, 1, 0, 0], [5, 9, 0, 0], [7, 3, 0, 0]])
        return wrong if columns["source"][0] == FOUR["source"][0] else answers

    def free(self, columns):
        return np.full((len(columns["path"]), 4), -1)


def test_decision_by_hand():
    """Catches: another position than the decision, train and held out swapped, an interval of the gap that is too
    narrow."""
    assert decision_token(Observations(TwoSets(), SMALL, FOUR)) == {
        "position": 2,
        "chance": 0.5,
        "accuracy": 0.25,
        "n": 4,
        "interval": QUARTER,
        "choices": {"n": 4, "right": 0.25, "other": 0.5, "none": 0.25},
    }
    found = decision_token(
        Observations(TwoSets(), SMALL, FOUR),
        Observations(TwoSets(), SMALL, {name: column[::-1] for name, column in FOUR.items()}),
    )
    assert (found["train_accuracy"], found["train_n"], found["memorisation_gap"]) == (1.0, 4, 0.75)
    assert found["train_interval"] == pytest.approx([0.5101, 1.0], abs=1e-4)
    # Newcombe: 0.75 - sqrt((1 - 0.5101)^2 + (0.6994 - 0.25)^2), and 0.75 + (0.25 - 0.0456)
    assert found["gap_interval"] == pytest.approx([0.0852, 0.9544], abs=1e-4)


def test_choices_are_of_problems_with_several_ways():
    """Catches: rows of one problem counted as several; `choices` of graphs with one arm or edge, where all that guesses
    is right."""
    twice = {name: np.concatenate([column, column]) for name, column in FOUR.items()}
    assert decision_token(Observations(Planner(SMALL), SMALL, twice))["choices"]["n"] == 4
    for task in (PathStar(1, 5, 20), PathStar(3, 2, 20)):
        columns = task.block(0, "test", 0, rows=100)
        assert "choices" not in decision_token(Observations(Planner(task), task, columns))


def test_parallel_models_are_judged_by_their_own_decoding():
    """Catches: forced predictions, which a teacherless model was never trained for, reported as its decision."""
    model = TwoSets()
    model.autoregressive = False
    found = decision_token(Observations(model, SMALL, FOUR))
    assert (found["accuracy"], found["choices"]["none"]) == (0.0, 1.0)


def test_reversed_models_decide_elsewhere(held_out):
    """Catches: position 2, a look-up for a reversed model, taken for its decision."""
    found = decision_token(Observations(ReversedGuesser(TASK), TASK, held_out))
    assert found["position"] == 4
    assert 0.4 < found["accuracy"] < 0.6
    assert "choices" not in found


def test_memory_is_told_from_a_plan(held_out, train):
    """Catches: training accuracy reported without its gap to held-out instances."""
    memory = decision_token(
        Observations(Memoriser(TASK, train), TASK, held_out), Observations(Memoriser(TASK, train), TASK, train)
    )
    plan = decision_token(Observations(Planner(TASK), TASK, held_out), Observations(Planner(TASK), TASK, train))
    hans = decision_token(Observations(CleverHans(TASK), TASK, held_out), Observations(CleverHans(TASK), TASK, train))
    assert (memory["train_accuracy"], plan["train_accuracy"], plan["accuracy"]) == (1.0, 1.0, 1.0)
    assert memory["gap_interval"][0] > 0.6
    assert plan["gap_interval"][1] < 0.01
    assert hans["gap_interval"][0] < 0 < hans["gap_interval"][1]
    low, high = memory["interval"]
    assert low < 1 / 3 < high


# ---------------------------------------------------------------- by_place

THREE = PathStar(3, 3, 10)


@pytest.mark.parametrize(("right", "memory"), [(10, False), (13, True)])
def test_luck_on_few_training_instances_is_no_memory(held_out, train, right, memory):
    """Catches: 10 right of 20 training instances called memory beside a third of the held-out ones, although the gap's
    interval begins below 0; no such sentence where it does not."""
    few = {name: column[:20] for name, column in train.items()}
    models = (CleverHans(TASK, seed) for seed in range(10_000))
    model = next(model for model in models if Observations(model, TASK, few).forced.right[:, 1].sum() == right)
    found = diagnose(model, TASK, held_out, few)
    assert 0.25 < found["decision_token"]["accuracy"] < 0.4
    assert ("it is being memorised" in found["verdict"]["text"]) == memory


@pytest.fixture(scope="module")
def short():
    return {name: column[:3000] for name, column in THREE.block(0, "test", 0).items()}


class AtPlaces(Planner):
    """Right at the decision with a chance that depends on where the goal's edge is shown, if that is one of `there`."""

    def __init__(self, task, there, inside, outside):
        super().__init__(task)
        self.there, self.inside, self.outside = there, inside, outside

    def decide(self, columns):
        rate = np.where(np.isin(self.task.clue(columns).places, self.there), self.inside, self.outside)
        return np.where(self.random(columns, 9) < rate, super().decide(columns), -1)


def test_places_by_hand():
    """Catches: places that are off by one, of another edge than the goal's, or counted with another's instances; rows
    of one graph counted as many."""
    task = PathStar(2, 3, 1000)
    shown = ["1,2|0,1|0,3|3,4", "0,3|1,2|0,1|3,4", "3,4|0,1|1,2|0,3", "0,3|3,4|0,1|1,2", "8,9|5,8|5,6|6,7"]
    lines = [f"{edges}/0,2=0,1,2" for edges in shown[:-1]] + [f"{shown[-1]}/5,7=5,6,7"]
    lines.append("3,4|0,3|0,1|1,2/0,2=0,1,2")  # the fourth once more, in another order
    # 25 times with other labels: 7 becomes 107, 117, ...
    columns = columns_of(task, *[re.sub(r"\d", rf"{i}\g<0>", line) for i in range(10, 35) for line in lines])
    assert by_place(Observations(AtPlaces(task, [1], 1.0, 0.0), task, columns)) == {
        "clue": "the edge to the goal",
        "places": 4,
        "accuracy": {1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0},
        "n": {1: 25, 2: 25, 3: 25, 4: 50},
        "differ": True,
        "learnt_at": [1],
        "there": 1.0,
        "elsewhere": 0.0,
    }


@pytest.mark.parametrize(
    ("problems", "right", "asked", "learnt"),
    [
        ([25, 100], [25, 60], 1, [1]),
        ([25, 100], [25, 70], 1, []),
        ([25, 100], [25, 70], 4, []),
        ([25, 100, 200], [25, 70, 200], 1, []),
    ],
)
def test_a_place_is_learnt_where_it_stands_apart_beyond_noise(problems, right, asked, learnt, monkeypatch):
    """Catches: 25 right answers at one place called learnt there, where 70 % are right elsewhere, because each was
    asked four times or because another place has 200."""
    places = np.repeat(np.arange(1, len(problems) + 1), problems)
    at_decision = np.concatenate([np.arange(n) < some for n, some in zip(problems, right, strict=True)])
    rows = np.repeat(np.arange(len(places)), np.where(places == 1, asked, 1))
    monkeypatch.setattr(PathStar, "clue", lambda self, columns: Clue("the clue", places[rows], len(problems)))
    monkeypatch.setattr(Observations, "at_decision", lambda self, answers: at_decision[rows])
    task = PathStar(2, 3, 1000)
    columns = {name: column[rows] for name, column in task.block(0, "test", 0).items()}
    assert by_place(Observations(Planner(task), task, columns))["learnt_at"] == learnt


def test_a_decision_learnt_at_one_place(short):
    """Catches: a half-learnt decision without its reason, in the verdict or in the findings, here or read back from
    disk."""
    found = diagnose(LastPlace(THREE), THREE, short)
    places = found["by_place"]
    assert places["learnt_at"] == [6]
    assert places["there"] == places["accuracy"][6] == 1.0
    assert all(0.3 < places["accuracy"][k] < 0.55 for k in range(1, 6))
    at = THREE.clue(short).places.tolist()
    stars = [
        (source, goal, *sorted(map(tuple, edges)))
        for source, goal, edges in zip(short["source"], short["goal"], short["edges"], strict=True)
    ]
    assert places["n"] == {
        k: len({star for star, place in zip(stars, at, strict=True) if place == k}) for k in range(1, 7)
    }
    assert 2900 < sum(places["n"].values()) < 3000  # 3,000 rows of 12,600 or so different graphs
    rest = sum(places["accuracy"][k] * at.count(k) for k in range(1, 6)) / (3000 - at.count(6))
    assert places["elsewhere"] == pytest.approx(rest)
    assert found["verdict"]["name"] == "undertrained"
    assert found["verdict"]["text"].endswith(
        f"Where the edge to the goal is number 6 of the 6 shown, the decision is right in 100.0%, elsewhere in "
        f"{rest:.1%}: it "
        "is learnt there alone so far."
    )
    for given in (found, json.loads(json.dumps(found))):
        assert findings(given)[3].endswith(" to 100.0% where it is number 6 of 6")


@pytest.mark.parametrize("rate", [1 / 3, 0.6, 0.9, 0.94, 0.95, 0.97, 1.0])
def test_places_that_make_no_difference(rate, short):
    """Catches: noise between places told as a finding."""
    found = diagnose(AtPlaces(THREE, [], 0.0, rate), THREE, short)
    assert (found["by_place"]["differ"], found["by_place"]["learnt_at"]) == (False, [])
    assert not [line for line in findings(found) if "edge to the goal" in line]
    assert "edge to the goal" not in found["verdict"]["text"]


def test_a_decision_that_is_learnt_almost_everywhere(short):
    """Catches: "there alone" of a model that is right in most instances elsewhere, too."""
    found = diagnose(AtPlaces(THREE, [5, 6], 1.0, 0.8), THREE, short)
    assert (found["by_place"]["differ"], found["by_place"]["learnt_at"]) == (True, [])
    assert "alone" not in found["verdict"]["text"]


def test_one_place_of_many_is_told_of_a_model_at_chance():
    """Catches: a decision called guessed that is learnt at one place of many."""
    task = PathStar(2, 9, 20)
    columns = {name: column[:2000] for name, column in task.block(0, "test", 0).items()}
    found = diagnose(AtPlaces(task, [16], 1.0, 0.47), task, columns)
    assert found["verdict"]["name"] == "clever-hans + indecipherable token"
    assert "number 16 of the 16 shown, the decision is right in 100.0%" in found["verdict"]["text"]


@pytest.mark.parametrize(
    ("clue", "message"),
    [
        (None, "PathStar names no clue that stands at different places"),
        (Clue("it", np.ones(3, dtype=int), 2), "it: give a place from 1 to 2 for each of 100 instances"),
        (Clue("it", np.full(100, 1.5), 2), "give a place from 1 to 2"),
        (Clue("it", np.zeros(100, dtype=int), 2), "give a place from 1 to 2"),
        (Clue("it", np.full(100, 3), 2), "give a place from 1 to 2"),
        (Clue("it", np.ones(100, dtype=int), 2), "it stands at one of 2 places, and one of them has 0 of the 100 diff"),
    ],
)
def test_clues_that_cannot_be_used(clue, message, monkeypatch):
    """Catches: a run that is lost at its end by a task of the user's own, shares of a handful of instances."""
    monkeypatch.setattr(PathStar, "clue", lambda task, columns: clue)
    task = PathStar(2, 4, 10)
    columns = task.sample(np.random.default_rng(0), 100)
    with pytest.raises(ValueError, match=message):
        by_place(Observations(CleverHans(task), task, columns))
    found = diagnose(CleverHans(task), task, columns)
    assert found["by_place"] is None
    assert found["not_measured"]["by_place"]


def test_clues_of_any_whole_numbers(short, monkeypatch):
    """Catches: a run lost at its end by places that NumPy does not count."""
    places = THREE.clue(short).places.astype(np.uint64)
    monkeypatch.setattr(PathStar, "clue", lambda task, columns: Clue("it", places, 6))
    assert by_place(Observations(LastPlace(THREE), THREE, short))["learnt_at"] == [6]


def test_claims_share_their_forced_predictions(short):
    """Catches: the same forward passes made for every claim."""
    asked = []

    class Counting(LastPlace):
        def forced(self, columns, answers):
            asked.append(("forced", len(answers)))
            return super().forced(columns, answers)

        def free(self, columns):
            asked.append(("free", len(columns["path"])))
            return super().free(columns)

    few = {name: column[:100] for name, column in short.items()}
    diagnose(Counting(THREE), THREE, short, few)
    assert sorted(asked) == [("forced", 100), ("forced", 3000), ("free", 3000)]
    asked.clear()
    Counting.autoregressive = False
    diagnose(Counting(THREE), THREE, short, few)
    assert sorted(asked) == [("forced", 3000), ("free", 100), ("free", 3000)]


# ---------------------------------------------------------------- by_difficulty


def test_sizes_are_told_of_problems_and_free_answers():
    """Catches: rows that pose the same problem again counted as further ones of a size; whole answers under teacher
    forcing, where the model's own decoding is asked for."""
    task = PathStar(2, (3, 4), 10)
    once = task.block(0, "test", 0, rows=20)
    columns = {name: np.concatenate([column, column]) for name, column in once.items()}
    model = Table(forced=np.zeros_like(columns["path"]), free=columns["path"])
    found = by_difficulty(Observations(model, task, columns))["path_length"]
    assert found == {size: {"exact": 1.0, "n": (task.lengths(once) == size).sum()} for size in (3, 4)}


# ---------------------------------------------------------------- clever_hans


def test_cheat_by_hand():
    """Catches: the last position counted as following, more given than two symbols, jumps counted as breaks."""
    model = Table(
        astray=[[0, 1, 5, 3], [9, 8, 2, 6], [5, 0, 4, 2], [7, 2, 5, 0]],
        continued=[[0, 4, 5, 3], [9, 1, 7, 6], [5, 3, 9, 6], [7, 3, 5, 9]],
    )
    assert clever_hans(Observations(model, SMALL, FOUR)) == {
        "n": 4,
        "rows": 4,
        "forced": {"follow": {3: 1.0}, "jump": {3: 0.0}, "break": {3: 0.0}},
        "free": {"follow": {3: 0.5}, "jump": {3: 0.25}, "break": {3: 0.25}},
        "follow_rate": 0.5,
        "follow_interval": HALF,
        "jump_rate": 0.25,
        "break_rate": 0.25,
        "last_position": {
            "forced": {"right_copy": 0.75, "wrong_arm": 0.0, "other": 0.25},
            "free": {"right_copy": 0.5, "wrong_arm": 0.5, "other": 0.0},
        },
    }
    assert model.asked == [("continued", DETOURS, 2), ("astray", DETOURS)]


def test_following_means_all_the_way():
    """Catches: a rate of positions instead of instances; a model that changes arms on the way counted as following."""
    model = Table(
        astray=[[32, 3, 19, 47, 12]] * 4,
        continued=[[32, 3, 19, 47, 12], [32, 3, 19, 16, 12], [32, 3, 6, 16, 12], [32, 3, 6, 47, 12]],
    )
    found = clever_hans(Observations(model, LONG, RELEASED))
    assert (found["follow_rate"], found["jump_rate"], found["break_rate"]) == (0.25, 0.25, 0.5)
    assert found["free"] == {"follow": {3: 0.5, 4: 0.5}, "jump": {3: 0.5, 4: 0.5}, "break": {3: 0.0, 4: 0.0}}


def test_cheat_of_a_reversed_model_by_hand():
    """Catches: a detour without the goal it starts from; the source, which is copied, counted as a step along the
    arm."""
    model = Table(
        astray=[[32, 3, 19, 47, 12]] * 4,
        continued=[[32, 3, 19, 47, 12], [32, 34, 6, 47, 12], [5, 34, 19, 47, 12], [3, 3, 19, 47, 12]],
        order="reversed",
    )
    found = clever_hans(Observations(model, LONG, RELEASED))
    assert model.asked == [("continued", [[32, 3, 19, 47, 12]] * 4, 2), ("astray", [[32, 3, 19, 47, 12]] * 4)]
    assert list(found["free"]["follow"]) == [3, 2]
    assert (found["follow_rate"], found["jump_rate"], found["break_rate"]) == (0.5, 0.25, 0.25)
    assert found["last_position"]["free"] == {"right_copy": 0.5, "wrong_arm": 0.0, "other": 0.5}


@pytest.mark.parametrize(
    ("planted", "follow", "jump", "copies"),
    [(CleverHans, 1, 0, 1), (Planner, 1, 0, 1), (Jumper, 0, 1, 1), (Undertrained, 0, 0, 0), (ReversedPlanner, 1, 0, 1)],
)
def test_followers_and_jumpers_are_told_apart(planted, follow, jump, copies, held_out):
    """Catches: fates mixed up. A planner follows too: following alone proves no failure."""
    found = clever_hans(Observations(planted(TASK), TASK, held_out))
    assert found["n"] == N
    assert found["follow_rate"] == pytest.approx(follow, abs=0.01)
    assert found["jump_rate"] == pytest.approx(jump, abs=0.01)
    assert found["break_rate"] == pytest.approx(1 - follow - jump, abs=0.02)
    for way in ("forced", "free"):
        assert found["last_position"][way]["right_copy"] == pytest.approx(copies, abs=0.06)
        fates = found[way]
        assert all(sum(fates[fate][k] for fate in fates) == pytest.approx(1) for k in fates["follow"])


def test_wrong_arms_are_drawn_by_the_seed(held_out):
    """Catches: the same wrong arm whatever the seed, or another one at every call with the same seed."""
    asked = []
    for seed in (0, 0, 1):
        model = Jumper(TASK)
        model.forced = lambda columns, answers: asked.append(answers.tolist()) or np.asarray(columns["path"])
        clever_hans(Observations(model, TASK, held_out), seed=seed)
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (PathStar(2, 2, 20), "path_length >= 4"),
        (PathStar(2, 3, 20), "path_length >= 4"),
        (PathStar(1, 5, 20), "give degree >= 2"),
    ],
)
def test_where_the_cheat_cannot_show(task, reason):
    """Catches: a rate from no position, or from no wrong arm."""
    columns = task.sample(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match=reason):
        clever_hans(Observations(CleverHans(task), task, columns))


# ---------------------------------------------------------------- decisions that move from row to row


class Written(Table):
    """As `Table`, for tasks with an `answer`."""

    def forced(self, columns, answers):
        self.asked.append(("forced", np.asarray(answers).tolist()))
        return np.array(self.tables["forced"])

    def continued(self, columns, answers, symbols):
        self.asked.append(("continued", np.asarray(answers).tolist(), np.asarray(symbols).tolist()))
        return np.array(self.tables["continued"])


def forks(answers, fork, **columns):
    """Rows of `Fork`, each another problem, two ways at each fork."""
    n = len(fork)
    given = {"answer": np.array(answers), "fork": np.array(fork), "ways": np.full(n, 2), "key": np.arange(n)}
    return given | columns


def test_forced_and_free_where_the_decision_moves():
    """Catches: decisions counted among the look-ups of a position, by which guesses look like small errors; one
    product for rows that decide at different positions; a first error compared with another row's decision; errors of
    rows that decide nothing left out of all errors."""
    columns = forks([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [1, 2, 2])
    model = Written(forced=[[0, 0, 3], [4, 5, 0], [7, 0, 9]], free=[[1, 0, 3], [4, 0, 6], [7, 8, 9]])
    found = forced_vs_free(Observations(model, Fork(), columns))
    assert found["forced"] == pytest.approx({1: 2 / 3, 2: 1 / 3, 3: 2 / 3})
    assert found["forced_others"] == pytest.approx({1: 1.0, 2: 0.0, 3: 2 / 3})
    assert found["free_others"] == pytest.approx({1: 1.0, 2: 0.0, 3: 1.0})
    # At the decisions 1 of 3 is right. The first row: 0 * 2/3 * 1/3; the two others: 1 * 2/3 * 1/3.
    assert found["snowball_prediction"] == pytest.approx((0 + 2 / 9 + 2 / 9) / 3)
    assert found["snowball_without_decision"] == pytest.approx((0 + 2 / 3 + 2 / 3) / 3)
    assert found["first_error"] == {1: 0.0, 2: 1.0, 3: 0.0}
    assert found["first_error_at_decision"] == 0.5
    # Of two rows one is wrong at its decision, the other without one.
    free = Written(forced=[[1, 2, 3], [4, 5, 6]], free=[[1, 0, 3], [4, 0, 6]])
    found = forced_vs_free(Observations(free, Fork(), forks([[1, 2, 3], [4, 5, 6]], [2, 0])))
    assert (found["errors"], found["first_error_at_decision"]) == (2, 0.5)


def test_the_decision_of_rows_that_have_one():
    """Catches: rows without a decision counted; the position of the first row given for all; no decision held out
    because no training row has one."""
    columns = forks([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 1, 1]], [1, 3, 0, 2], ways=np.array([2, 4, 9, 4]))
    model = Written(forced=[[1, 0, 0], [4, 5, 0], [0, 0, 0], [0, 1, 1]], free=columns["answer"])
    found = decision_token(Observations(model, Fork(), columns))
    assert (found["position"], found["n"], found["accuracy"]) == (None, 3, pytest.approx(2 / 3))
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    none = Observations(model, Fork(), {**columns, "fork": np.zeros(4, dtype=int)})
    with pytest.raises(ValueError, match="Fork has no decision in forward order"):
        decision_token(none)
    assert decision_token(Observations(model, Fork(), columns), none) == found


def test_a_cheat_whose_decision_moves_by_hand():
    """Catches: two symbols given to every row, so that a row is asked before or after its own decision; rows without
    decision, or without a position behind it, counted as not following; rows counted for problems."""
    answers = [[1, 2, 3, 4], [5, 6, 7, 8], [3, 3, 3, 3], [4, 4, 4, 4], [0, 0, 0, 0]]
    columns = forks(answers, [1, 2, 0, 3, 1], key=np.array([6, 7, 8, 9, 6]))
    detours = [[2, 3, 4, 5], [5, 7, 8, 9], [1, 1, 1, 1]]  # of the first, the second and the last row
    found = [[2, 3, 4, 4], [5, 7, 7, 8], [1, 1, 9, 0]]  # it follows, jumps, and follows for one step
    model = Written(forced=found, continued=found)
    measured = clever_hans(Observations(model, Fork(4), columns))
    assert model.asked == [("continued", detours, [1, 2, 1]), ("forced", detours)]
    third = pytest.approx(1 / 3)
    assert (measured["n"], measured["rows"]) == (2, 3)
    assert measured["free"] == {"follow": {2: 1.0, 3: third}, "jump": {2: 0.0, 3: third}, "break": {2: 0.0, 3: third}}
    assert (measured["follow_rate"], measured["jump_rate"], measured["break_rate"]) == (third, third, third)
    assert measured["follow_interval"] == pytest.approx(wilson(2 / 3, 2))
    assert measured["last_position"]["free"] == {"right_copy": 1.0, "wrong_arm": 0.0, "other": 0.0}


class Detoured(Fork):
    """Its detours are those of the column `detour`."""

    def detours(self, columns, rng):
        return columns["detour"]


@pytest.mark.parametrize(
    ("order", "fork", "answer", "detours", "written", "rates", "positions"),
    [
        ("forward", 1, [1, 2, 3, 4], [[5, 6, 3, 4]] * 2, [[5, 2, 3, 4], [5, 6, 0, 4]], (0.5, 0.5, 0), [2]),
        ("forward", 1, [1, 2, 3, 4, 5], [[6, 7, 8, -1, -1]], [[6, 7, 5, 0, 0]], (1, 0, 0), [2]),
        ("forward", 1, [1, 2, 3, 4], [[1, 6, 7, 8], [5, 6, 7, 8]], [[5, 6, 7, 8]], (1, 0, 0), [2, 3]),
        ("reversed", 4, [1, 2, 3, 4], [[6, 7, 8, 9]], [[1, 7, 8, 9]], (1, 0, 0), [3, 2]),
    ],
    ids=["it comes back", "it is shorter", "it is right at one row's decision", "reversed"],
)
def test_where_a_detour_can_be_followed(order, fork, answer, detours, written, rates, positions):
    """Catches: who jumps counted as breaking where the detour is right again further on; the last symbol of a shorter
    detour, what is behind it, or the symbol that is written last in reversed order taken for steps along it; a row
    counted to which nothing wrong was revealed."""
    columns = forks([answer] * len(detours), [fork] * len(detours), detour=np.array(detours))
    model = Written(forced=written, continued=written, order=order)
    found = clever_hans(Observations(model, Detoured(len(answer)), columns))
    assert (found["follow_rate"], found["jump_rate"], found["break_rate"]) == rates
    assert list(found["free"]["follow"]) == positions
    assert found["rows"] == len(written)


def test_the_verdict_counts_the_problems_that_decide():
    """Catches: a verdict with an interval of all problems around a decision that 20 of them have, by which 12 of 20 are
    above chance."""
    columns = forks(np.zeros((400, 4), dtype=int), np.where(np.arange(400) < 20, 2, 0))

    def step(columns, shown, k):
        wrong = np.where(columns["fork"] > 0, (k == columns["fork"]) & (columns["key"] >= 12), columns["key"] % 5 == 0)
        return np.where(wrong, -1, 0)

    task = Fork(4)
    found = diagnose(Stepwise(task, step), task, columns)
    assert found["decision_token"]["n"] == 20
    assert "(decision 60.0% [38.7%, 78.1%], chance 50.0%, n = 20)" in found["verdict"]["text"]


def test_no_cheat_without_a_decision():
    """Catches: Clever Hans, or an indecipherable token, found in a task that has no decision, such as addition."""
    task = Fork(4)
    columns = task.sample(np.random.default_rng(0), 500)
    columns["fork"][:] = 0
    half = columns["answer"].copy()
    half[::2, 1] = -1
    found = diagnose(Written(forced=half, free=half), task, columns)
    assert found["verdict"]["name"] == "undertrained"
    assert "position 2 is right in 50.0% under teacher forcing" in found["verdict"]["text"]
    assert "Fork has no decision in forward order" in found["not_measured"]["decision_token"]
    assert "no answer of up to 4 symbols has a position between a decision" in found["not_measured"]["clever_hans"]
    assert found["decision_token"] is found["clever_hans"] is None
    assert findings(found, task.words)[0].startswith("exact answers: 50.0 %")
    assert "decision" not in report.position_table(report.accuracies_of(found), None, None, task.words)


# ---------------------------------------------------------------- learning_order


def curve(*entries, decoding="forced", prefix=""):
    """Accuracies of positions 1, 2, ... at steps 100, 200, ..."""
    return [
        {"step": 100 * i} | {f"{prefix}{decoding}/position_{k}": share for k, share in enumerate(shares, start=1)}
        for i, shares in enumerate(entries, start=1)
    ]


HISTORY = [(0.9, 0.4, 0.96), (0.95, 0.5, 0.94), (0.99, 0.5, 0.96), (0.99, 0.6, 0.99)]


def test_learning_order_by_hand():
    """Catches: the first crossing taken although accuracy fell again; "never" counted as last learnt."""
    assert learning_order(curve(*HISTORY)) == {
        "threshold": 0.95,
        "step": {1: 200, 2: None, 3: 300},
        "order": [1, 3],
        "last_step": 400,
    }


def test_learning_order_reads_the_trainers_log():
    """Catches: losses between the evaluations read as evaluations; another way of decoding taken for the one asked."""
    log = curve(*HISTORY, prefix="eval_")
    log.insert(1, {"step": 150, "loss": 1.0})
    log[0]["eval_free/position_2"] = 1.0
    assert learning_order(log) == learning_order(curve(*HISTORY))
    assert learning_order(curve((0.2, 0.5), (0.7, 0.5), decoding="parallel"), decoding="parallel", threshold=0.5) == {
        "threshold": 0.5,
        "step": {1: 200, 2: 100},
        "order": [2, 1],
        "last_step": 200,
    }


def test_the_cheat_is_told_from_learning_backwards():
    """Catches: an order by position, or by accuracy, instead of by time."""
    cheat = curve((1, 0.5, 0.6, 0.7, 1), (1, 0.5, 0.96, 0.9, 1), (1, 0.5, 1, 0.99, 1))
    planner = curve(
        (1, 0.5, 0.6, 0.7, 1), (1, 0.5, 0.6, 0.97, 1), (1, 0.5, 0.98, 1, 1), (1, 0.97, 1, 1, 1), decoding="free"
    )
    assert (learning_order(cheat)["order"], learning_order(cheat)["step"][2]) == ([1, 5, 3, 4], None)
    assert learning_order(planner, decoding="free")["order"] == [1, 5, 4, 3, 2]


def test_a_position_lost_at_the_end_is_not_learnt():
    """Catches: a model that forgot reported by its best moment."""
    assert learning_order(curve((0.99,), (0.5,)))["step"] == {1: None}


@pytest.mark.parametrize("log", [(), [{"step": 1, "loss": 2.0}], curve(*HISTORY, decoding="free")])
def test_no_evaluations_no_order(log):
    """Catches: an empty order that reads as "nothing was ever learnt"."""
    with pytest.raises(ValueError, match=r"no forced/position_k.*eval_strategy"):
        learning_order(log)


# ---------------------------------------------------------------- diagnose


def test_diagnosis_joins_the_claims(held_out, train):
    """Catches: a claim measured on other rows, or left out; a curve or budget that does not arrive."""
    model, budget = CleverHans(TASK), Budget(500, 32_000)
    log = curve((1.0, 0.3, 1.0, 1.0, 1.0))
    found = diagnose(model, TASK, held_out, train, log, budget)
    assert found["forced_vs_free"] == forced_vs_free(Observations(model, TASK, held_out))
    assert found["decision_token"] == decision_token(
        Observations(model, TASK, held_out), Observations(model, TASK, train)
    )
    assert found["clever_hans"] == clever_hans(Observations(model, TASK, held_out))
    assert found["learning_order"] == learning_order(log)
    assert found["not_measured"] == {}
    assert "500 steps" in found["verdict"]["text"]
    assert "it goes on along it in 100.0%" in found["verdict"]["text"]


def test_what_cannot_be_measured_comes_with_a_reason(held_out):
    """Catches: a crash on a task or model for which one claim means nothing, or a claim dropped in silence."""
    task = PathStar(2, 3, 20)
    short = diagnose(CleverHans(task), task, task.sample(np.random.default_rng(0), 400))
    assert short["clever_hans"] is None
    assert "path_length >= 4" in short["not_measured"]["clever_hans"]
    assert "eval_strategy" in short["not_measured"]["learning_order"]
    assert "goes on along it" not in short["verdict"]["text"]
    parallel = diagnose(Parallel(TASK, [1.0] * 5), TASK, held_out, curve=curve([1.0] * 5, decoding="free"))
    assert "at once" in parallel["not_measured"]["clever_hans"]
    assert parallel["learning_order"]["order"] == [1, 2, 3, 4, 5]
    assert "train_accuracy" not in parallel["decision_token"]


@pytest.mark.parametrize("planted", [Planner, CleverHans, DecisionOnly, ReversedPlanner, Undertrained])
def test_a_diagnosis_is_strict_json(planted, held_out):
    """Catches: NumPy numbers, or NaN, which other readers of JSON refuse."""
    found = diagnose(planted(TASK), TASK, held_out, held_out, curve([0.5] * 5))
    assert json.loads(json.dumps(found, allow_nan=False))["forced_vs_free"]["n"] == N


@pytest.mark.parametrize(("degree", "length"), [(1, 2), (1, 5), (2, 2), (3, 3), (3, 4)])
@pytest.mark.parametrize("planted", [Planner, ReversedPlanner, Undertrained])
def test_the_smallest_sizes(degree, length, planted):
    """Catches: a crash, or a solved model called failed, where a graph has one arm or an answer no middle."""
    task = PathStar(degree, length, 20)
    columns = task.sample(np.random.default_rng(0), 200)
    found = diagnose(planted(task), task, columns)
    assert found["verdict"]["name"] == ("undertrained" if planted is Undertrained else "solved")
    assert (found["clever_hans"] is None) == (length < 4 or degree == 1)


@pytest.mark.parametrize(
    ("curve", "threshold", "message"),
    [
        ([{"step": 1, "free/position_1": 0.5}], 95, "threshold=95 is no accuracy"),
        ([{"step": 1, "free/position_1": 0.5}], -1, "threshold=-1 is no accuracy"),
        ([{"step": 1, "free/position_1": 0.5}, {"step": 2, "free/position_2": 0.5}], 0.9, "lacks a number for some of"),
    ],
)
def test_curves_that_say_nothing(curve, threshold, message):
    """Catches: every position learnt at once, or never, because of a slip; a KeyError."""
    with pytest.raises(ValueError, match=message):
        learning_order(curve, decoding="free", threshold=threshold)


def test_a_curve_out_of_order():
    """Catches: a position that was learnt called never learnt, because an early entry stands last."""
    curve = [{"step": 200, "free/position_1": 1.0}, {"step": 100, "free/position_1": 0.1}]
    assert learning_order(curve, decoding="free") == {
        "threshold": 0.95,
        "step": {1: 200},
        "order": [1],
        "last_step": 200,
    }
