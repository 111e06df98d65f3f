"""Questions to chat models, and the answers that are read out of their tags."""

import dataclasses
import json

import pytest

from nt_failures.tasks import TASKS, chat, described, find_task, read_task
from nt_failures.tasks.base import Task
from nt_failures.tasks.sort import Sort


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>0,1,2</answer>", "0,1,2"),
        ("<answer>\n0,1,2\n</answer>", "\n0,1,2\n"),
        ("0,1,2", ""),  # no tag
        ("", ""),
        ("<answer></answer>", ""),  # an empty one
        ("<answer>0,1,2</answer><answer></answer>", ""),
        ("<answer>0,1</answer> No: <answer>0,2</answer>", "0,2"),  # two
        ("I think <answer>0,1,2</answer> is right.", "0,1,2"),  # text around
        ("<answer>the path is 0,1,2</answer>", "the path is 0,1,2"),  # text within
        ("<answer>0,1,2", ""),  # not closed
        ("0,1,2</answer>", ""),  # not opened
        ("</answer>0,1,2<answer>", ""),
        ("<answer>0,1</answer> or <answer>0,2", "0,1"),
        ("<answer>0,1 <answer>0,2</answer>", "0,2"),
        ("<answer>0,1</answer> 0,2</answer>", "0,1"),
        ("<Answer>0,1</Answer>", ""),  # other tags
        ("<answer >0,1</answer>", ""),
    ],
)
def test_the_last_closed_pair_of_tags_counts(text, answer):
    """Catches: an answer outside its tags, one that was cut, or an earlier one taken for the answer."""
    assert chat.read_tagged(text) == answer


def test_long_texts_are_read_at_once():
    """Catches: minutes for a model that repeats itself, by a search that begins anew at each tag."""
    assert chat.read_tagged("<answer>" * 500_000) == ""
    assert chat.read_tagged("<answer>" * 500_000 + "1</answer>") == "1"


INSTRUCTIONS = {
    "path_star": [({}, "Give all nodes, both ends included, of the path along edges from the start to the goal")],
    "tree_star": [({}, "Give all nodes, both ends included, of the path along edges from the start to the goal")],
    "unequal_star": [
        ({}, "Give all nodes, both ends included, of the path along edges from the start to the goal"),
        ({"form": "edges"}, "Give all edges, each as from,to, of the path along edges from the start to the goal"),
    ],
    "addition": [
        ({}, "Two numbers of 3 digits"),
        ({"digits": 8}, "Give the sum with 9 digits, zeros in front included"),
    ],
    "hops": [({}, "Give the node you end at."), ({"way": True}, "Give every node that you come to, in order")],
    "sort": [
        ({}, "Give them in ascending order"),
        ({"mode": "copy"}, "Give them in the same order"),
        ({"mode": "reverse"}, "Give them in reverse order"),
    ],
}


@pytest.mark.parametrize(
    ("name", "fields", "words"), [(n, *case) for n, cases in INSTRUCTIONS.items() for case in cases]
)
def test_a_question_asks_what_is_judged(name, fields, words):
    """Catches: an instruction for another form of the answer than the judge takes; one without tags, or in no line."""
    task = TASKS[name](**fields)
    asked = chat.question(task)
    assert words in asked
    assert asked.startswith(task.instruction)
    assert asked.endswith("Write your answer between <answer> and </answer>, and nothing else there.\n\n")
    assert asked.count("\n") == 2


@pytest.mark.parametrize(("name", "refused"), [(name, name in ("in_weights_star", "siblings")) for name in TASKS])
def test_what_no_prompt_shows_is_not_asked(name, refused):
    """Catches: a chat model that is asked for a way in a graph that it never saw; any other task refused."""
    task = TASKS[name]()
    if not refused:
        assert chat.question(task).startswith(task.instruction)
        return
    with pytest.raises(ValueError, match=f"{type(task).__name__} cannot be asked in a chat, as no prompt shows its"):
        chat.question(task)


def test_a_task_of_ones_own_is_asked_in_the_words_of_its_docstring():
    """Catches: a question without the problem; the signature that `dataclass` writes taken for one."""

    @dataclasses.dataclass(frozen=True)
    class Backwards(Sort):
        """Write the labels
        backwards: `1,2=` is answered by `2,1`.

        Not part of it.
        """

        instruction = Task.instruction

    assert Backwards().instruction == "Write the labels backwards: `1,2=` is answered by `2,1`."
    Silent = dataclasses.make_dataclass(
        "Silent", [], bases=(Sort,), frozen=True, namespace={"instruction": Task.instruction}
    )
    with pytest.raises(
        ValueError, match="Silent says nowhere what is asked; give it a docstring, or a property `instr"
    ):
        _ = Silent().instruction


@pytest.mark.parametrize("last", ["", ".", "!", ":"])
def test_the_words_of_a_task_end_as_a_sentence(last):
    """Catches: an instruction without a full stop that runs into what follows; one that gets two."""
    words = f"Sort these{last}"
    Sorted = dataclasses.make_dataclass("Sorted", [], bases=(Sort,), frozen=True, namespace={"instruction": words})
    assert chat.question(Sorted()).startswith(f"Sort these{last or '.'} You may think first.")


@pytest.mark.parametrize("name", [*TASKS, "own_tasks.Pair"])
def test_a_task_is_rebuilt_from_its_description(name):
    """Catches: a parameter that gets lost, or a range that comes back as another task."""
    sizes = find_task(name).CONFIGS.values() or [{}]
    for size in sizes:
        task = find_task(name)(**size)
        assert read_task(json.loads(described(task))) == task
