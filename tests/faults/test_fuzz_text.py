"""Lines of text: graphs, answers, rewards and the metric, against a naive reading of the same text."""

import itertools
import re

import numpy as np
from fuzzing import ODD, accepted, fuzz
from hypothesis import strategies as st

from nt_failures.evaluation.path_accuracy import PathAccuracy
from nt_failures.evaluation.rewards import reward_exact_path, reward_valid_prefix
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 4, 10)
TEXT = TASK.render(TASK.sample(np.random.default_rng(3), 64))
PROMPTS, PATHS = TEXT["prompt"].to_list(), TEXT["completion"].to_list()
ROWS = st.integers(0, len(PROMPTS) - 1)
MARKS = st.text("0123456789,|/=$ -\n", max_size=40)


@st.composite
def damaged(draw, lines):
    """One of the lines, with up to three characters cut, changed or put in."""
    line = draw(st.sampled_from(lines))
    for _ in range(draw(st.integers(0, 3))):
        i = draw(st.integers(0, len(line)))
        line = (
            line[:i]
            + draw(st.sampled_from(["", "0", "7", ",", "|", "/", "=", "-1", "x", "\u0663", "99999999999"]))
            + line[i + draw(st.integers(0, 2)) :]
        )
    return line


def naive(line):
    """The graph and the path to its goal, read with no thought for speed; None where the line is none of G(2, 4)."""
    found = re.fullmatch(r"(\d+,\d+(?:\|\d+,\d+)*)/(\d+),(\d+)=((?:\d+(?:,\d+)*)?)", line.strip(), re.ASCII)
    if not found or any(len(word) > 9 or word != str(int(word)) for word in re.findall(r"\d+", line)):
        return None
    edges = [tuple(map(int, edge.split(","))) for edge in found[1].split("|")]
    source, goal = int(found[2]), int(found[3])
    arms = [[child] for parent, child in edges if parent == source]
    for arm in arms:
        while len(arm) < 9 and (after := [child for parent, child in edges if parent == arm[-1]]):
            arm.append(after[0])
    nodes = [node for arm in arms for node in arm]
    if sorted(nodes) != sorted(set(nodes) - {source}) or sorted(map(len, arms)) != [3, 3] or len(edges) != 6:
        return None
    ends = [arm for arm in arms if arm[-1] == goal]
    if not ends or max([source, *nodes]) > 9:
        return None
    path = [source, *ends[0]]
    given = [int(word) for word in found[4].split(",")] if found[4] else None
    return None if given not in (None, path) else {"edges": edges, "source": source, "goal": goal, "path": given}


@fuzz(
    1800,
    line=st.one_of(damaged([a + b for a, b in zip(PROMPTS, PATHS, strict=True)]), damaged(PROMPTS), MARKS, st.text()),
)
def test_parse(line):
    """Catches: a damaged line that is read as some graph, a whole one that is refused, an error that is no
    ValueError."""
    shown = repr(line.strip())[:20]
    row = accepted(lambda: TASK.parse(line), shown.rstrip("'\""))
    assert row == naive(line)


@fuzz(2500, text=st.one_of(damaged(PATHS), MARKS, st.text()))
def test_read_answer(text):
    """Catches: a reading that fails, that drops a word, or that finds a number where none stands, such as 8 in 08."""
    words = text.replace(",", " ").split()
    read = TASK.read_answer(text)
    assert len(read) == len(words)
    assert all(
        label == (int(w) if re.fullmatch(r"0|[1-9][0-9]{0,8}", w) else -1) for label, w in zip(read, words, strict=True)
    )


ANSWERS = st.lists(st.one_of(st.integers(-1, 12), st.just(10**9)), max_size=6)


@fuzz(1000, row=ROWS, answer=st.one_of(ANSWERS, ROWS.map(lambda i: TASK.read_answer(PATHS[i]))), own=st.booleans())
def test_judge(row, answer, own):
    """Catches: any difference from judging node by node in a loop."""
    instance = TASK.parse(PROMPTS[row] + PATHS[row])
    path = instance["path"]
    answer = path if own else answer
    columns = {name: np.array([value]) for name, value in instance.items()}
    found = {name: verdict[0].tolist() for name, verdict in TASK.judge(columns, [answer]).items()}
    right = [i < len(answer) and answer[i] == node for i, node in enumerate(path)]
    wrong = [k for k in range(max(len(answer), 4)) if answer[k : k + 1] != path[k : k + 1]]
    walks = all(step in instance["edges"] for step in itertools.pairwise(answer))
    assert found == {
        "correct": right,
        "exact": answer == path,
        "first_error": wrong[0] + 1 if wrong else 0,
        "decision": right[1],
        "valid_path": len(answer) == 4 and answer[0] == path[0] and walks,
    }


@fuzz(400, answers=st.lists(ODD, max_size=3))
def test_judge_of_odd_answers(answers):
    """Catches: 32.7 judged as 32, a number that no array holds, an answer that is no list."""
    columns = TASK.sample(np.random.default_rng(0), 2)
    found = accepted(lambda: TASK.judge(columns, answers))
    assert found is None or len(found["exact"]) == 2


MESSAGE = st.dictionaries(st.sampled_from(["role", "content"]), st.one_of(st.sampled_from(["user", PROMPTS[0]]), ODD))
PROMPT = st.one_of(
    damaged(PROMPTS), st.sampled_from(PROMPTS), MARKS, st.lists(st.one_of(MESSAGE, ODD), max_size=2), ODD
)
COMPLETION = st.one_of(damaged(PATHS), MARKS, st.lists(MESSAGE, max_size=2), ODD)


@fuzz(1200, prompt=PROMPT, completion=COMPLETION)
def test_rewards(prompt, completion):
    """Catches: a prompt or completion of another kind that ends in a KeyError, a reward outside 0..1, an exact path
    without all of it."""
    exact = accepted(lambda: reward_exact_path([prompt], [completion]), "prompt 1")
    valid = accepted(lambda: reward_valid_prefix([prompt], [completion]), "prompt 1")
    assert (exact is None) == (valid is None)
    if exact is not None:
        assert exact[0] in (0.0, 1.0)
        assert exact[0] <= valid[0] <= 1.0
        assert not isinstance(completion, str) or exact[0] == (completion.replace(",", " ").split() == _path(prompt))


def _path(prompt):
    """The words of the path to the goal of a prompt that was accepted."""
    line = prompt if isinstance(prompt, str) else [m["content"] for m in prompt if m.get("role") == "user"][-1]
    graph, _, query = line.strip().partition("/")
    parents = {child: parent for parent, child in (edge.split(",") for edge in graph.split("|"))}
    path = [query.rstrip("=").split(",")[1]]
    while path[0] in parents:
        path.insert(0, parents[path[0]])
    return path


@fuzz(
    60,
    rows=st.lists(ROWS, min_size=1, max_size=4),
    answers=st.lists(damaged(PATHS), min_size=4, max_size=4),
    prompts=st.booleans(),
)
def test_metric(rows, answers, prompts):
    """Catches: a metric that differs from counting by hand."""
    answers = answers[: len(rows)]
    more = {"prompts": [PROMPTS[i] for i in rows]} if prompts else {}
    found = PathAccuracy().compute(predictions=answers, references=[PATHS[i] for i in rows], **more)
    read = [TASK.read_answer(answer) for answer in answers]
    true = [TASK.read_answer(PATHS[i]) for i in rows]
    assert found["exact"] == np.mean([a == t for a, t in zip(read, true, strict=True)])
    for k in range(4):
        assert found[f"position_{k + 1}"] == np.mean(
            [a[k : k + 1] == t[k : k + 1] for a, t in zip(read, true, strict=True)]
        )
    assert found["decision"] == found["position_2"]


@fuzz(
    60,
    predictions=st.lists(ODD, max_size=2),
    references=st.lists(st.one_of(st.sampled_from(PATHS), ODD), max_size=2),
    prompts=st.one_of(st.none(), st.lists(PROMPT, max_size=2)),
    decision=st.one_of(st.just(2), ODD),
)
def test_metric_of_odd_input(predictions, references, prompts, decision):
    """Catches: input of another kind that is scored, or that ends in an error without a word on the input."""
    more = {} if prompts is None else {"prompts": prompts}
    found = accepted(
        lambda: PathAccuracy().compute(
            predictions=predictions, references=references, decision_position=decision, **more
        )
    )
    assert found is None or found["n"] == len(references)
