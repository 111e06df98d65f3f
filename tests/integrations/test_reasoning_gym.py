"""Tasks of reasoning-gym: five of them as tasks of ours, with flags, any tokenizer, and their own scorers."""

import importlib
import itertools
import json
import pickle
import subprocess
import sys

import datasets
import numpy as np
import pytest
from datasets.fingerprint import Hasher
from planted import byte_bpe_of
from stepwise import Stepwise
from transformers import EvalPrediction

from nt_failures import registry
from nt_failures.data.batches import IGNORE
from nt_failures.data.columns import to_table
from nt_failures.data.splits import load_splits
from nt_failures.data.tokenizer import byte_level_tokenizer, encode_rows
from nt_failures.diagnosis.diagnose import diagnose
from nt_failures.evaluation.prediction import objective_metrics
from nt_failures.experiments import command_line, flags, run
from nt_failures.experiments.run_arguments import RunArguments
from nt_failures.hub.load import load
from nt_failures.objectives import NextToken
from nt_failures.tasks import find_task, read_task, reasoning_gym
from nt_failures.tasks._check import check_task

FIVE = ("path_star", "chain_sum", "spell_backward", "shortest_path", "rotate_matrix")
SHOW = """
import json
from nt_failures.tasks import find_task
tasks = [find_task("reasoning_gym." + name)() for name in %s]
rows = [task.texts(task.block(0, "test", 0, rows=5)) for task in tasks]
print(json.dumps([{name: text.to_list() for name, text in each.items()} for each in rows]))
"""


def task_of(name, **sizes):
    return find_task(f"reasoning_gym.{name}")(**sizes)


def rows_of(task, split="test", rows=40, seed=0):
    columns = task.block(seed, split, 0, rows=rows)
    return columns, {name: text.to_list() for name, text in task.texts(columns).items()}


def gym_names():
    return importlib.import_module("reasoning_gym").factory.DATASETS


def entry_of(task, columns, row):
    """The item of a row as reasoning-gym gives it."""
    return type(task).make(seed=0)[int(columns["item"][row])]


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("name", FIVE)
def test_rows_are_items_of_the_package(name):
    """Catches: an answer of another question, text that is changed on the way, an answer without its end."""
    task = task_of(name)
    check_task(task)
    columns, texts = rows_of(task)
    for row, (prompt, completion) in enumerate(zip(texts["prompt"], texts["completion"], strict=True)):
        entry = entry_of(task, columns, row)
        answer, end = entry["answer"].strip(), " ."
        assert prompt == entry["question"].rstrip() + "\n"
        assert completion.removeprefix(answer) == end * (task.answer_length + 1 - len(answer.replace(",", " ").split()))
    assert task.answer_length == max(len(text.replace(",", " ").split()) for text in _answers(task, range(40)))


def _answers(task, items):
    made = type(task).make(seed=0)
    return [made[item]["answer"] for item in items]


def test_rows_are_the_same_in_another_process():
    """Catches: rows that depend on the order of a set, on a global generator, or on what was asked before."""
    told = subprocess.run([sys.executable, "-c", SHOW % (FIVE,)], capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == [rows_of(task_of(name), rows=5)[1] for name in FIVE]


@pytest.mark.parametrize("name", FIVE)
def test_splits_share_no_question(name):
    """Catches: a question in train and in test, whatever the seeds."""
    asked = {
        (split, seed): {*rows_of(task_of(name), split, 60, seed)[1]["prompt"]}
        for split in ("train", "validation", "test")
        for seed in (0, 1)
    }
    for (one, ours), (other, theirs) in itertools.combinations(asked.items(), 2):
        assert one[0] == other[0] or not ours & theirs


@pytest.mark.parametrize("name", FIVE)
def test_a_chat_model_is_asked_in_whole_sentences(name):
    """Catches: "Generates tasks ..." said to a model, from the documentation of the package, without a full stop."""
    columns = rows_of(task_of(name), rows=1)[0]
    row = datasets.Dataset(to_table(task_of(name), columns, "chat"))[0]
    how = "You may think first. Write your answer between <answer> and </answer>, and nothing else there."
    said = f"Answer the question below, in the form that it asks for. {how}\n\n"
    assert row["prompt"][0]["content"] == f"{said}{entry_of(task_of(name), columns, 0)['question'].rstrip()}\n"


def test_its_path_star_by_hand():
    """Catches: a path_length taken for ours, which counts the source; nodes that are not read between blanks."""
    task = task_of("path_star", degree=2, node_range=50, min_path_length=4, max_path_length=4)
    assert task.answer_length == 5
    columns, texts = rows_of(task)
    for prompt, completion in zip(texts["prompt"], texts["completion"], strict=True):
        graph, _, query = prompt.split("Solve the following task:\n")[1].partition("/")
        edges = {tuple(edge.split()) for edge in graph.strip("|").split("|")}
        path = completion.removesuffix(" .").split(" ")
        assert [path[0], path[-1]] == query.removesuffix(" =\n").split()
        assert {*itertools.pairwise(path)} <= edges
        assert (len(edges), len(path)) == (8, 5)
    words = task.texts(columns)["completion"].to_list()[0].split(" ")
    given = [" ".join(words), ",".join(words[:5]), " ".join(words[:4]), " ".join(words[:1]), "no path", ""]
    exact = [task.judge({k: v[:1] for k, v in columns.items()}, [task.read_answer(text)])["exact"][0] for text in given]
    assert exact == [True, True, False, False, False, False]


# ---------------------------------------------------------------- the scorer


@pytest.mark.parametrize("name", FIVE)
def test_wrong_answers_are_wrong(name):
    """Catches: a judge that compares with another row, or takes part of an answer for all of it."""
    task = task_of(name)
    columns, texts = rows_of(task)
    right = [task.read_answer(text) for text in texts["completion"]]
    judged = task.judge(columns, right)
    assert judged["exact"].all()
    assert not judged["first_error"].any()
    assert np.array_equal(judged["correct"], task.answers(columns) != -1)
    wrong = [[*answer[:-1], *task.read_answer("xyzzy")] for answer in right]
    judged = task.judge(columns, wrong)
    assert not judged["exact"].any()
    assert judged["first_error"].tolist() == [len(answer) for answer in right]
    assert not task.judge(columns, [[]] * 40)["exact"].any()
    assert not task.judge(columns, [[-1]] * 40)["exact"].any()
    longer = task.judge(columns, [[*answer, *task.read_answer("xyzzy")] for answer in right])
    for row, completion in enumerate(texts["completion"]):  # that of spell_backward takes some of them
        text = f"{completion.split(' .')[0]} xyzzy"
        score = type(task).make(seed=0).score_answer(text, entry_of(task, columns, row))
        assert longer["exact"][row] == (score >= 1 - 1e-9)
        assert longer["exact"][row] or longer["first_error"][row] == len(right[row]) + 1


def test_any_answer_that_its_scorer_takes_is_right():
    """Catches: a judge that knows the written answer alone: there may be several shortest paths."""
    task = task_of("shortest_path")
    columns, texts = rows_of(task, rows=150)
    found = 0
    for row, text in enumerate(texts["completion"]):
        moves = text.split(" .")[0].split()
        one = {name: column[[row]] for name, column in columns.items()}
        for at in range(len(moves) - 1):
            turned = [*moves[:at], moves[at + 1], moves[at], *moves[at + 2 :]]
            score = type(task).make(seed=0).score_answer(" ".join(turned), entry_of(task, columns, row))
            judged = task.judge(one, [task.read_answer(" ".join(turned))])
            assert judged["exact"][0] == (score >= 1 - 1e-9)
            if turned != moves and judged["exact"][0]:
                found += 1
                assert judged["correct"][0, : len(moves)].all()
    assert found > 10


def test_what_it_has_solved_is_said_and_nothing_of_a_decision():
    """Catches: a Clever Hans, or a decision, where nobody knows what is decided."""
    task = task_of("rotate_matrix", max_n=3)
    columns = task.block(0, "test", 0, rows=300)
    solved = diagnose(Stepwise(task, lambda columns, shown, k: task.answers(columns)[:, k - 1]), task, columns)
    assert solved["verdict"]["name"] == "solved"
    assert solved["decision_token"] is solved["clever_hans"] is None
    empty = diagnose(Stepwise(task, lambda columns, shown, k: np.full(300, -1)), task, columns)
    assert empty["verdict"]["name"] == "undertrained"


# ---------------------------------------------------------------- names and parameters


def test_names_go_both_ways():
    """Catches: a run whose file does not name its task, a class that a worker cannot find, caches that never match."""
    task = task_of("chain_sum", max_terms=3)
    assert registry.name_of(type(task)) == "reasoning_gym.chain_sum"
    assert read_task({"task": "reasoning_gym.chain_sum", **task.to_dict()}) == task
    assert pickle.loads(pickle.dumps(task)) == task
    assert pickle.loads(pickle.dumps(type(task))) is type(task)
    assert not hasattr(reasoning_gym, "torch")  # a ValueError here is what torch.compile, which looks, would print
    assert Hasher.hash(task) == Hasher.hash(task_of("chain_sum", max_terms=3)) != Hasher.hash(task_of("chain_sum"))
    assert (task.config_name, task_of("chain_sum").config_name) == ("max_terms3", "default")


def test_parameters_are_flags():
    """Catches: a parameter that is dropped, or the seed and size of the package, which rows of ours have not."""
    words = ["--task", "reasoning_gym.chain_sum", "--min_terms", "3", "--max_terms", "3", "--allow_negation", "true"]
    task = command_line.parse(words).task
    assert task == task_of("chain_sum", min_terms=3, max_terms=3, allow_negation=True)
    for prompt in rows_of(task)[1]["prompt"]:
        assert len([sign for sign in prompt.split() if sign in "+-"]) == 2
    with pytest.raises(ValueError, match="unknown name 'size'"):
        command_line.parse(["--task", "reasoning_gym.chain_sum", "--size", "5"])


def test_no_parameter_stands_in_the_way_of_a_run():
    """Catches: a task that no run takes, because a flag of every run is called as its parameter."""
    for name in gym_names():
        flags.parser_of(find_task(f"reasoning_gym.{name}"), RunArguments)
    args = command_line.parse(["--task", "reasoning_gym.arc_1d", "--max_size", "20", "--num_train", "50"])
    assert (args.data.num_train, args.task) == (50, task_of("arc_1d", max_size=20))
    prompts = rows_of(args.task, rows=3)[1]["prompt"]
    assert all("Example 3" in prompt and "Example 4" not in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: find_task("reasoning_gym.chain_sun"), "has no 'chain_sun'. Did you mean 'chain_sum'? It has "),
        (lambda: find_task("reasoning_gym"), "give one of its tasks as reasoning_gym.NAME; NAME is one of composite,"),
        (lambda: find_task("reasoning_gym."), "give one of its tasks as reasoning_gym.NAME; NAME is one of composite,"),
        (lambda: task_of("chain_sum", min_terms=0), "is refused by reasoning-gym: min_terms must be positive"),
        (lambda: task_of("rush_hour").answer_length, "has no written answers, so nothing to train on"),
        (lambda: task_of("word_ladder").block(0, "train", 0), "a limited list of items; ours need any"),
    ],
)
def test_what_does_not_fit_is_said(make, reason):
    """Catches: an assertion of another package, or a crash in the middle of the rows."""
    with pytest.raises(ValueError) as error:
        make()
    assert reason in str(error.value)


def test_no_file_has_the_package_imported(monkeypatch):
    """Catches: code that runs because a downloaded file names it; a missing package without a way out."""
    monkeypatch.delitem(sys.modules, "reasoning_gym")
    with pytest.raises(registry.NotImported, match="--import_module reasoning_gym"):
        read_task({"task": "reasoning_gym.chain_sum"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'nt_failures\[reasoning_gym\]'"):
        find_task("reasoning_gym.chain_sum")
    with pytest.raises(ValueError, match=r"pip install 'nt_failures\[reasoning_gym\]'"):
        find_task("reasoning_gym")


# ---------------------------------------------------------------- tokens, and a run


@pytest.mark.parametrize("made", ["bytes", "bpe"])
@pytest.mark.parametrize("name", FIVE)
def test_scores_with_any_tokenizer(name, made):
    """Catches: text that a tokenizer does not give back, positions of other symbols than words, an answer that is read
    past its end, a wrong word that counts as right."""
    task = task_of(name)
    columns, texts = rows_of(task)
    tokenizer = byte_level_tokenizer() if made == "bytes" else byte_bpe_of(texts["prompt"] + texts["completion"], 500)
    encoded = encode_rows(tokenizer, texts["prompt"], texts["completion"])
    assert tokenizer.batch_decode(encoded["prefix_ids"]) == texts["prompt"]
    assert tokenizer.batch_decode(encoded["target_ids"]) == texts["completion"]
    assert [max(row) for row in encoded["target_positions"]] == task.lengths(columns).tolist()
    width = max(map(len, encoded["target_ids"]))
    target, positions = np.full((40, width), IGNORE), np.zeros((40, width), dtype=int)
    for row, ids in enumerate(encoded["target_ids"]):
        target[row, : len(ids)], positions[row, : len(ids)] = ids, encoded["target_positions"][row]
    labels = {"target_ids": target, "target_positions": positions}
    objective = NextToken.from_tokenizer(tokenizer)
    perfect = EvalPrediction({"forced": target, "free": target}, labels)
    found = objective_metrics(perfect, objective, task, columns, tokenizer)
    assert found["forced/exact"] == found["free/exact"] == found["free/position_1"] == 1
    assert "decision" not in found
    spoilt = target.copy()
    spoilt[:10, 0] = tokenizer.convert_tokens_to_ids("~")
    found = objective_metrics(
        EvalPrediction({"forced": spoilt, "free": spoilt}, labels), objective, task, columns, tokenizer
    )
    assert found["free/exact"] == found["forced/position_1"] == 0.75


def test_a_run_from_the_command_line(tmp_path):
    """Catches: a task that cannot be trained on, saved, found again, or told on a card."""
    rows = ["--num_train", "64", "--num_validation", "8", "--num_test", "16"]
    task = ["--task", "reasoning_gym.chain_sum", "--max_terms", "2", "--max_digits", "1"]
    steps = ["--max_steps", "2", "--eval_strategy", "steps", "--eval_steps", "1", "--use_cpu", "true"]
    model = ["--model", "gpt2-2x32", "--report_to", "none", "--output_dir", str(tmp_path / "run")]
    found = run.main([*task, *rows, *steps, *model])
    assert found.chance is None
    assert [name for name in found.metrics if name.startswith("free/")] == ["free/exact", "free/position_1"]
    assert found.diagnosis["learning_order"] is not None
    loaded = load(str(tmp_path / "run"))
    assert loaded.task == task_of("chain_sum", max_terms=2, max_digits=1)
    assert loaded.tokenizer("12 + 3 .").input_ids == byte_level_tokenizer()("12 + 3 .").input_ids
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "arXiv 2505.24760" in card
    assert "Labels of a prompt" not in card
    splits = load_splits(loaded.task, num_train=8, num_validation=4, num_test=4)
    assert splits["train"].column_names == ["item", "prompt", "completion"]


def test_modules_have_no_other_names():
    """Catches: a name that Python asks of any module taken for a task."""
    assert not hasattr(reasoning_gym, "__path__")
    assert reasoning_gym.gcd is find_task("reasoning_gym.gcd")
