"""examples/lm_eval/tasks in lm-evaluation-harness: the rows and the judge of every task."""

import importlib.util
from pathlib import Path

import lm_eval
import pytest
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from nt_failures.tasks import TASKS, chat, described

FOLDER = Path(__file__).parents[2] / "examples" / "lm_eval"
EASY = {"tree_star": "deg2-branch2-path3-nodes50", "unequal_star": "medium", "addition": "digits3", "sort": "reverse8"}
EASY |= {"hops": "nodes20-hops4-way", "in_weights_star": "deg5000-path5", "countdown": "numbers3"}
EASY |= {"siblings": "parents5-children50-prefix10", "path_star": "mixed"}


def module(name):
    """A file of the folder, as the harness imports it: in no package."""
    spec = importlib.util.spec_from_file_location(f"tasks_{name}", FOLDER / "tasks" / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def full(name, size=""):
    """The harness's name of a task, or of a size of it."""
    prefix = "pathstar" if name == "path_star" else f"nt_{name}"
    return f"{prefix}_{size}".replace("-", "_").removesuffix("_")


class Answers(LM):
    """Gives every prompt the answer of a dict."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.lengths = answers, set()

    def generate_until(self, requests):
        self.lengths |= {request.args[1]["max_gen_toks"] for request in requests}
        return [self.answers[request.args[0]] for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError


def test_the_files_are_what_the_script_writes():
    """Catches: a named config without a file, a file of a config that is gone, one that was changed by hand."""
    written = {path.name: path.read_text(encoding="utf-8") for path in (FOLDER / "tasks").glob("*.yaml")}
    assert written == module("make_tasks").files()
    named = [full(name, size) for name in TASKS for size in TASKS[name].CONFIGS]
    manager = TaskManager(include_path=str(FOLDER / "tasks"), include_defaults=False)
    assert sorted(manager.all_subtasks) == sorted(named)
    assert sorted(manager.all_groups) == sorted(map(full, TASKS))


@pytest.mark.parametrize("name", EASY)
def test_figures_by_hand(name):
    """Catches: rows of another size, split or seed; prompts with something before or behind them; a right answer that
    is wrong, or a wrong one right; the decision of rows that have none; an answer cut before its end."""
    task = TASKS[name](**TASKS[name].CONFIGS[EASY[name]])
    columns = task.block(seed=0, split="test", index=0, rows=40)
    texts = {column: text.to_list() for column, text in task.texts(columns).items()}
    some = dict(zip(texts["prompt"], texts["completion"], strict=True))
    others = task.answers(columns)[::-1]  # where any right answer will do, another row's is no wrong one
    wrong = task.with_answers(columns, others if task.num_answers is None else others[:, ::-1])
    some |= dict(list(zip(texts["prompt"], task.texts(wrong)["completion"].to_list(), strict=True))[:10])
    one = full(name, EASY[name])
    model = Answers(some)
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    found = lm_eval.simple_evaluate(model=model, tasks=[one], task_manager=manager, limit=40, bootstrap_iters=0)
    scores = found["results"][one]
    judged = task.judge(columns, [task.read_answer(some[prompt]) for prompt in texts["prompt"]])
    assert scores["exact,none"] == pytest.approx(judged["exact"].mean(), abs=1e-12)
    assert 0.7 <= scores["exact,none"] < 1
    for metric in ("unseen", "valid_path"):
        assert (f"{metric},none" in scores) == (metric in judged)
        if metric in judged:
            assert scores[f"{metric},none"] == pytest.approx(judged[metric].mean(), abs=1e-12)
    assert ("valid_prefix,none" in scores) == ("valid_path" in judged)
    places = task.decisions(columns, "forward")
    if places.any():
        right = judged["correct"][range(40), places - 1][places > 0]
        assert scores["decision,none"] == pytest.approx(right.mean(), abs=1e-12)
    else:
        assert "decision,none" not in scores
    assert model.lengths == {task.answer_length + (task.END in task.symbols)}


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ("0,8,0,3", {"exact": 1.0, "complete": 1.0, "decision": 1.0}),
        (
            "0 8 0 3 3 3",
            {"exact": 1.0, "complete": 1.0, "decision": 1.0},
        ),  # cut: there is no end token
        ("0,7,9,3", {"exact": 0.0, "complete": 1.0, "decision": 0.0}),
        ("0,8", {"exact": 0.0, "complete": 0.0, "decision": 1.0}),
        ("I think it is 8", {"exact": 0.0, "complete": 1.0, "decision": 0.0}),
    ],
)
def test_scores_of_a_sum(answer, scores):
    """Catches: a dropped carry that counts as right, digits behind the sum that count as an error, a crash on prose."""
    doc = {
        "a": [3, 5, 7],
        "b": [4, 4, 6],
        "answer": [0, 8, 0, 3],
        "task": described(TASKS["addition"](digits=3)),
    }
    assert module("utils").process_results(doc, [answer]) == scores


@pytest.mark.parametrize(
    ("source", "goal", "answer", "exact", "valid_path", "valid_prefix"),
    [
        (1, 4, "1 3 6 4 .", 1.0, 1.0, 1.0),
        (1, 4, "1 3 0 8 5 .", 0.0, 1.0, 1.0),  # a wrong arm, longer
        (7, 5, "7 3 6 4 .", 0.0, 1.0, 0.8),  # a wrong arm, shorter
        (7, 5, "7 3 0 6 .", 0.0, 0.0, 0.6),
        (7, 5, "1 3 0 8 5 .", 0.0, 0.0, 0.0),
    ],
)
def test_walks_of_arms_of_several_lengths(source, goal, answer, exact, valid_path, valid_prefix):
    """Catches: a share above 1, or of the answer's length; a wrong arm of another length that is no path."""
    doc = {
        "edges": [[6, 4], [3, 0], [7, 3], [8, 5], [0, 8], [1, 3], [3, 6], [-1, -1]],  # 7>3>0>8>5 and 1>3>6>4
        "source": source,
        "goal": goal,
        "path": [1, 3, 6, 4, -1] if source == 1 else [7, 3, 0, 8, 5],
        "task": described(TASKS["unequal_star"](2, (4, 5), 2, 10)),
    }
    scores = module("utils").process_results(doc, [answer])
    assert [scores[name] for name in ("exact", "valid_path", "valid_prefix")] == [exact, valid_path, valid_prefix]


def test_a_chat_model_is_asked_in_words():
    """Catches: a question without its instruction, an answer looked for outside its tags, rows of another task."""
    task = TASKS["sort"](length=8)
    columns = task.block(seed=0, split="test", index=0, rows=6)
    texts = {column: text.to_list() for column, text in task.texts(columns).items()}
    replies = [f"Well: <answer>{answer}</answer>" for answer in texts["completion"]]
    replies[4:] = [texts["completion"][4], f"<answer>{texts['completion'][0]}</answer>"]  # no tags; a wrong one
    questions = [chat.question(task) + prompt for prompt in texts["prompt"]]
    model = Answers(dict(zip(questions, replies, strict=True)))
    metadata = {"name": "sort", "config": "sort8"}
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False, metadata=metadata)
    found = lm_eval.simple_evaluate(model=model, tasks=["nt_chat"], task_manager=manager, limit=6, bootstrap_iters=0)
    scores = found["results"]["nt_chat"]
    assert scores["exact,none"] == pytest.approx(4 / 6)
    assert scores["tagged,none"] == pytest.approx(5 / 6)
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    with pytest.raises(ValueError, match="no rows are named; add --metadata"):
        lm_eval.simple_evaluate(model=model, tasks=["nt_chat"], task_manager=manager)
