"""`prompt_style="chat"`: the same rows as questions to a chat model."""

import datasets
import numpy as np
import own_tasks
import pytest
from datasets import load_dataset

from nt_failures.data.columns import to_columns, to_table
from nt_failures.data.registration import BUILDERS
from nt_failures.data.splits import load_splits
from nt_failures.data.tokenizer import tokenize, word_level_tokenizer
from nt_failures.evaluation.api_predictor import ApiPredictor
from nt_failures.tasks import TASKS, chat, described
from nt_failures.tasks.path_star import PathStar

ROWS = {"num_train": 60, "num_test": 20}


def only(messages, role):
    """The text of the one message that there is, of this role."""
    ((message,),) = (messages,)
    assert {*message} == {"role", "content"}
    assert message["role"] == role
    return message["content"]


def test_a_row_by_hand():
    """Catches: a problem that is not the last line, an answer with what fills it up, or without its tags."""
    task = PathStar(degree=1, path_length=(2, 3), num_nodes=5)
    columns = {
        "edges": np.array([[[3, 0], [-1, -1]], [[0, 1], [1, 2]]]),
        "source": np.array([3, 0]),
        "goal": np.array([0, 2]),
        "path": np.array([[3, 0, -1], [0, 1, 2]]),
    }
    rows = datasets.Dataset(to_table(task, columns, "chat"))
    assert [only(row, "user").split("\n") for row in rows["prompt"]] == [
        [f"{task.instruction} You may think first. Write your answer between <answer> and </answer>, and nothing else "
         "there.", "", problem]
        for problem in ("3,0/3,0=", "0,1|1,2/0,2=")
    ]  # fmt: skip
    assert [only(row, "assistant") for row in rows["completion"]] == ["<answer>3,0</answer>", "<answer>0,1,2</answer>"]
    assert rows["task"] == ['{"task": "path_star", "degree": 1, "path_length": [2, 3], "num_nodes": 5}'] * 2


@pytest.mark.parametrize("name", ["in_weights_star", "siblings"])
def test_a_task_that_no_prompt_shows_is_refused_as_rows(name):
    """Catches: rows for chat models that ask for a graph of which they say nothing."""
    task = TASKS[name]()
    for ask in (
        lambda: load_dataset(f"nt_failures/{name}", prompt_style="chat", **ROWS),
        lambda: to_table(task, task.sample(np.random.default_rng(0), 2), "chat"),
        lambda: ApiPredictor("m", task, "http://localhost/v1", prompt_style="chat"),
    ):
        with pytest.raises(ValueError, match="cannot be asked in a chat, as no prompt shows its graph; train a model"):
            ask()


@pytest.mark.parametrize("name", [n for n, b in BUILDERS.items() if not b.task_class.in_weights])
def test_rows_are_those_of_the_text(tmp_path, name):
    """Catches: other problems than without messages; an answer that does not read as the right one; a column lost."""
    config = [*BUILDERS[name].builder_configs][-1]
    text = load_dataset(name, config, cache_dir=str(tmp_path), **ROWS)
    rows = load_dataset(name, config, cache_dir=str(tmp_path), prompt_style="chat", **ROWS)
    task = BUILDERS[name].builder_configs[config].task
    for split, part in rows.items():
        assert part.info.config_name == f"{config}-chat"
        assert {*part.column_names} == {*text[split].column_names, "task"}
        assert {*part["task"]} == {described(task)}
        drawn, columns = to_columns(text[split]), to_columns(part)
        assert {*columns} == {*drawn}
        assert all(np.array_equal(columns[column], drawn[column]) for column in drawn)
        problems = [only(row, "user").removeprefix(chat.question(task)) for row in part["prompt"]]
        assert problems == [*text[split]["prompt"]]
        said = [only(row, "assistant") for row in part["completion"]]
        assert not any(task.END in answer for answer in said)
        assert task.judge(columns, [task.read_answer(chat.read_tagged(answer)) for answer in said])["exact"].all()


def test_a_name_is_enough(tmp_path):
    """Catches: tools that pass a name of a config and nothing else, such as TRL's commands, and get no messages."""
    by_name = load_dataset("nt_failures/sort", "copy8-chat", cache_dir=str(tmp_path), **ROWS)
    by_keyword = load_dataset("nt_failures/sort", "copy8", prompt_style="chat", cache_dir=str(tmp_path), **ROWS)
    stream = load_dataset("nt_failures/sort", "copy8-chat", cache_dir=str(tmp_path), streaming=True, **ROWS)
    assert by_name["train"][:] == by_keyword["train"][:]
    assert [*stream["train"]] == by_name["train"].to_list()
    assert stream["train"].features == by_name["train"].features


def test_a_task_of_ones_own(tmp_path, monkeypatch):
    """Catches: a task without a builder that no chat model can be asked."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    rows = load_splits(own_tasks.Pair(), num_train=20, num_validation=0, num_test=5, prompt_style="chat")
    assert only(rows["train"][0]["prompt"], "user").startswith("Two different numbers in any order: `2,5=` and `2,5`")
    assert rows["test"]["task"] == [described(own_tasks.Pair())] * 5


def test_a_column_that_is_taken():
    """Catches: a column of a task that is overwritten without a word."""
    with pytest.raises(ValueError, match="PathStar has a column 'task', as rows for chat models have; rename it"):
        to_table(PathStar(), {**PathStar().sample(np.random.default_rng(0), 2), "task": np.array([0, 1])}, "chat")


@pytest.mark.parametrize("streaming", [False, True])
def test_messages_are_not_tokenised_here(tmp_path, streaming):
    """Catches: a TypeError of the tokenizer's, or messages read as text."""
    rows = load_dataset(
        "nt_failures/pathstar", prompt_style="chat", cache_dir=str(tmp_path), streaming=streaming, **ROWS
    )
    with pytest.raises(
        ValueError, match="holds lists, as of messages for chat models; draw the rows with prompt_style='text'"
    ):
        tokenize(rows, word_level_tokenizer(PathStar()))
