"""Rewards for GRPO: by hand, against the judge, for every form in which TRL passes prompts and completions."""

import numpy as np
import own_tasks
import pytest

from nt_failures.evaluation.rewards import reward_exact_answer, reward_exact_path, reward_valid_prefix
from nt_failures.tasks import TASKS, chat, described
from nt_failures.tasks.path_star import PathStar

# G(2, 5): arms 32 34 6 16 12 (goal) and 32 3 19 47 28.
PROMPT = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12="
BOTH = pytest.mark.parametrize("reward", [reward_exact_path, reward_valid_prefix])


@pytest.mark.parametrize(
    ("completion", "exact", "prefix"),
    [
        ("32,34,6,16,12", 1.0, 1.0),
        (" 32 34 6 16 12\n", 1.0, 1.0),
        ("32,3,19,47,28", 0.0, 1.0),  # a wrong arm, to its leaf
        ("32,3,19,47,12", 0.0, 0.8),  # a wrong arm, then the leap to the goal
        ("32,34,6,16,12,28", 0.0, 1.0),  # the path, and more
        ("32,34", 0.0, 0.4),
        ("32,6,34,16,12", 0.0, 0.2),
        ("34,6,16,12", 0.0, 0.0),  # along edges, but not from the source
        ("12,16,6,34,32", 0.0, 0.0),  # reversed
        ("32,$,6,16,12", 0.0, 0.2),
        ("32,-3,19", 0.0, 0.2),
        ("32;34;6;16;12", 0.0, 0.0),
        ("", 0.0, 0.0),
        ("the path is 32,34", 0.0, 0.0),
        ("9" * 5000, 0.0, 0.0),
        ("³²", 0.0, 0.0),
    ],
)
def test_rewards_by_hand(completion, exact, prefix):
    """Catches: a wrong arm or a longer answer that counts as exact, nodes counted behind the first false step."""
    assert reward_exact_path([PROMPT], [completion]) == [exact]
    assert reward_valid_prefix([PROMPT], [completion]) == [prefix]


@pytest.mark.parametrize("completion", [None, [], [None], ["32"], 7, {"content": "32"}, [{"content": None}], [{}]])
@BOTH
def test_strange_completions_score_nothing(reward, completion):
    """Catches: a training run of hours that dies on one odd completion, such as a tool call without content."""
    assert reward([PROMPT, PROMPT], [completion, "32,34,6,16,12"]) == [0.0, 1.0]


@BOTH
def test_conversations(reward):
    """Catches: conversations refused, the system's text read as the graph, an earlier turn read as the answer."""
    prompt = [{"role": "system", "content": "Find the path."}, {"role": "user", "content": PROMPT}]
    earlier = [{"role": "user", "content": "0,1/0,1="}, {"role": "assistant", "content": "0,1"}, *prompt]
    right = [{"role": "assistant", "content": "32,34,6,16,12"}]
    wrong = [{"role": "assistant", "content": "32,34,6,16,12"}, {"role": "assistant", "content": "no"}]
    assert reward([prompt, earlier, prompt], [right, right, wrong]) == [1.0, 1.0, 0.0]


@BOTH
def test_other_columns_are_let_through(reward):
    """Catches: a TypeError for the columns and callables that the trainer passes beside prompts and completions."""
    more = {"edges": [[]], "completion_ids": [[1]], "trainer_state": None, "log_extra": print, "log_metric": print}
    assert reward(prompts=[PROMPT], completions=["32,34,6,16,12"], **more) == [1.0]


def test_sizes_are_read_from_the_prompt_and_the_judge_agrees():
    """Catches: rewards fixed to one degree or length, to ordered edges, or with their own idea of what is right."""
    prompts, completions, exact, whole = [], [], [], []
    for seed, task in enumerate([PathStar(1, 2, 5), PathStar(2, 2, 50), PathStar(5, 3, 50), PathStar(3, 6, 65536)]):
        columns = task.sample(np.random.default_rng(seed), 12)
        rng = np.random.default_rng(seed + 10)
        answers = columns["path"].tolist()
        if task.degree > 1:
            answers[4:8] = task.detours(columns, rng)[4:8].tolist()
        answers[8:] = rng.integers(0, task.num_nodes, (4, task.path_length)).tolist()
        judged = task.judge(columns, answers)
        prompts += task.render(columns)["prompt"].to_list()
        completions += [",".join(map(str, answer)) for answer in answers]
        exact += judged["exact"].tolist()
        whole += judged["valid_path"].tolist()
    assert reward_exact_path(prompts, completions) == [float(x) for x in exact]
    assert [reward == 1.0 for reward in reward_valid_prefix(prompts, completions)] == whole
    assert 0 < sum(exact) < sum(whole) < len(whole)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "prompt 2 is no path-star prompt: not a path-star line: ''"),
        ("find the path", "prompt 2 is no path-star prompt: not a path-star line: 'find the path'"),
        ("0,1|1,2/0,2=0,1,2", r"prompt 2 is no path-star prompt: it holds the path already, \[0, 1, 2\]"),
        ("0,1|1,2/0,1=", "goal 1 in '0,1|1,2/0,1=' is no leaf"),
        ("0,1|1,2/5,2=", "is not a graph of 1 arms"),
        ("0,1|1,2|0,3/0,3=", "is not a graph of 2 arms"),
        ("0,1|1,0/0,1=", "is not a graph"),
        (None, "prompt 2 is no path-star prompt: None; give text"),
        (7, "prompt 2 is no path-star prompt: 7; give text"),
        (["0,1/0,1="], r"prompt 2 is no path-star prompt: \['0,1/0,1='\]; give text"),
        ({"role": "user", "content": "0,1/0,1="}, "prompt 2 is no path-star prompt: {.*; give text, or a list"),
        ([{"role": "user"}], "which one is the user's text"),
        ([], "which one is the user's text"),
        ([{"role": "assistant", "content": "0,1/0,1="}], "which one is the user's text"),
        ([{"role": "user", "content": None}], "which one is the user's text"),
    ],
)
@BOTH
def test_bad_prompts(reward, prompt, reason):
    """Catches: a reward of 0, an endless loop or a KeyError where the dataset is not what the reward was made for."""
    with pytest.raises(ValueError, match=reason.replace("|", r"\|")):
        reward([PROMPT, prompt], ["32,34,6,16,12"] * 2)


@BOTH
def test_labels_have_no_limit(reward):
    """Catches: a limit on labels that nobody gave."""
    assert reward(["70000,1|1,2|70000,3|3,65536/70000,65536="], ["70000,3,65536"]) == [1.0]


@BOTH
def test_as_many_completions_as_prompts(reward):
    """Catches: rewards that silently belong to other rows."""
    with pytest.raises(ValueError, match="2 prompts for 1 completions"):
        reward([PROMPT] * 2, ["32"])


# Questions to chat models -------------------------------------------------------------------------------------------

QUESTION = [{"role": "user", "content": chat.question(PathStar()) + PROMPT}]
COLUMNS = PathStar().parse(PROMPT + "32,34,6,16,12")


@pytest.mark.parametrize(
    ("said", "exact", "prefix"),
    [
        ("<answer>32,34,6,16,12</answer>", 1.0, 1.0),
        ("12 comes from 16. <answer> 32, 34, 6, 16, 12 </answer> So it is.", 1.0, 1.0),
        ("<answer>32,3,19,47,28</answer> No, <answer>32,34,6,16,12</answer>", 1.0, 1.0),
        ("<answer>32,34,6,16,12</answer> No, <answer>32,3,19,47,28</answer>", 0.0, 1.0),
        ("32,34,6,16,12", 0.0, 0.0),  # no tag
        ("<answer></answer> 32,34,6,16,12", 0.0, 0.0),  # an empty one
        ("<answer>32,34,6,16,12", 0.0, 0.0),  # not closed
        ("<answer>The path is 32,34,6,16,12</answer>", 0.0, 0.0),
        ("<answer>32->34->6->16->12</answer>", 0.0, 0.0),
        ("<answer>32,34</answer>", 0.0, 0.4),
        ("<answer>32,34,6,16,12,28</answer>", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_answers_of_chat_models_by_hand(said, exact, prefix):
    """Catches: an answer outside its tags, an earlier one or one that was cut taken for the answer."""
    replies = [[{"role": "assistant", "content": said}]]
    row = {name: [value] for name, value in COLUMNS.items()}
    assert reward_exact_answer([QUESTION], replies, task=[described(PathStar())], **row) == [exact]
    assert reward_exact_path([QUESTION], replies) == [exact]
    assert reward_valid_prefix([QUESTION], replies) == [prefix]
    assert reward_exact_path([QUESTION[0]["content"]], [said]) == [exact]  # a question as text


def test_every_task_judges_its_own_rows():
    """Catches: a reward for one task alone; answers judged by another row, task or size; one right answer of two."""
    asked = [task for task in TASKS.values() if not task.in_weights]
    kinds = [*(task(**size) for task in asked for size in task.CONFIGS.values()), own_tasks.Pair()]
    drawn = [kind.sample(np.random.default_rng(seed), 3) for seed, kind in enumerate(kinds)]
    names = sorted({name for columns in drawn for name in columns})
    rows = {name: [] for name in names}  # as `concatenate_datasets` joins them: None where a task has no such column
    prompts, said, described_by = [], [], []
    for kind, columns in zip(kinds, drawn, strict=True):
        texts = {name: text.to_list() for name, text in kind.texts(columns).items()}
        prompts += [[{"role": "user", "content": chat.question(kind) + prompt}] for prompt in texts["prompt"]]
        first, second, third = texts["completion"]
        if isinstance(kind, own_tasks.Pair):  # two numbers in any order
            first = ",".join(first.split(",")[::-1])
        cut = ",".join(third.split(",")[1:])
        said += [f"<answer>{first}</answer>", f"So: <answer>{second}</answer>.", f"<answer>{cut}</answer>"]
        described_by += [described(kind)] * 3
        for name in names:
            rows[name] += columns[name].tolist() if name in columns else [None] * 3
    found = reward_exact_answer(prompts, said, task=described_by, trainer_state=None, **rows)
    assert found == [1.0, 1.0, 0.0] * len(kinds)


NO_TASKS = ["sort", "", None, 3, ["sort"], {"task": "sort"}, "[]", "[1]", "{}", '{"task": 5}', "[" * 9999]
NO_TASKS += ['{"task": "sorted"}', '{"task": "sort", "lengths": 3}', '{"task": "sort", "length": 0}']


@pytest.mark.parametrize("described", NO_TASKS)
def test_a_task_column_that_describes_no_task(described):
    """Catches: a KeyError, or a complaint about JSON, that does not say of which column."""
    with pytest.raises(
        ValueError, match=r"^the column 'task' holds .*, which is no task .*tasks\.described\(task\) gives"
    ):
        reward_exact_answer([QUESTION], [""], task=[described], labels=[[1]], answer=[[1]])


def test_a_task_of_ones_own_is_to_be_imported():
    """Catches: a column that is called broken where a module was not imported, or one that is imported unasked."""
    with pytest.raises(ValueError, match="`import no_module` first"):
        reward_exact_answer([QUESTION], [""], task=['{"task": "no_module.Task"}'])


def test_rows_that_cannot_be_judged():
    """Catches: a KeyError, or a reward of 0, where the rows are not those that the reward was made for."""
    row = {name: [value] for name, value in COLUMNS.items()}
    with pytest.raises(ValueError, match="no column 'task'; draw them with prompt_style='chat'"):
        reward_exact_answer([QUESTION], [""], **row)
    del row["goal"]
    with pytest.raises(ValueError, match=r"no column 'goal', by which PathStar\(.*judges"):
        reward_exact_answer([QUESTION], [""], task=[described(PathStar())], **row)
    with pytest.raises(ValueError, match="prompt 1 is no prompt: None; give text"):
        reward_exact_answer([None], [""], task=[described(PathStar())], **row)
    with pytest.raises(ValueError, match="1 prompts for 2 completions"):
        reward_exact_answer([QUESTION], ["", ""], task=[described(PathStar())], **row)
    with pytest.raises(ValueError, match="prompt 1 is no path-star prompt: not a path-star line: 'Go!'"):
        reward_exact_path([[{"role": "user", "content": "Use <answer>.\nGo!"}]], [""])
