"""Rows of files: the released text, JSON Lines, what is refused, and splits that are read from them."""

import dataclasses
import json

import datasets
import numpy as np
import pytest

from nt_failures.data.columns import to_columns
from nt_failures.data.lines import load_lines
from nt_failures.data.splits import builder_of, load_splits
from nt_failures.tasks import TASKS
from nt_failures.tasks.path_star import PathStar

TASK = PathStar(2, 3, 10)
LINES = ["2,8|5,2|5,9|9,3/5,8=5,2,8", "1,6|1,5|5,3|6,2/1,2=1,6,2", "0,6|6,1|7,2|0,7/0,1=0,6,1"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def written(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def drawn(task, n=20, split="train"):
    """Rows of `load_dataset`, and each as a line."""
    counts = {f"num_{name}": n if name == split else 0 for name in ("train", "validation", "test")}
    builder = builder_of(task, **counts)
    builder.download_and_prepare()
    rows = builder.as_dataset(split=split)
    return rows, [row["prompt"] + row["completion"] for row in rows]


def test_the_released_form_by_hand(tmp_path):
    """Catches: source and goal swapped, edges in another order, a last line lost or a blank one read."""
    rows = load_lines(written(tmp_path / "deg_2_path_3_nodes_10_test_20000.txt", [*LINES, ""]))
    assert len(rows) == 3
    assert rows[1] == {
        "edges": [[1, 6], [1, 5], [5, 3], [6, 2]],
        "source": 1,
        "goal": 2,
        "path": [1, 6, 2],
        "prompt": "1,6|1,5|5,3|6,2/1,2=",
        "completion": "1,6,2",
    }


@pytest.mark.parametrize("task", [cls() for cls in TASKS.values()] + [PathStar((2, 3), (3, 5), 30)], ids=str)
@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_a_file_gives_the_rows_that_were_written(task, form, tmp_path):
    """Catches: a column, a type or an order that a row loses on its way through a file; of any task."""
    rows, lines = drawn(task)
    path = tmp_path / f"rows.{form}"
    if form == "txt":
        written(path, lines)
    else:
        rows.to_json(path)
    back = load_lines(path, task)
    assert back.features == rows.features
    assert back.to_list() == rows.to_list()


@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(form, tmp_path):
    """Catches: a file that an editor of Windows saved, refused at its first line."""
    rows, lines = drawn(TASK)
    if form == "jsonl":
        lines = [json.dumps({name: row[name] for name in ("prompt", "completion")}) for row in rows]
    path = tmp_path / f"rows.{form}"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert load_lines(path).to_list() == rows.to_list()


def test_columns_come_back_as_arrays(tmp_path):
    """Catches: rows that a diagnosis cannot take."""
    columns = to_columns(load_lines(written(tmp_path / "a.txt", LINES), TASK))
    assert TASK.judge(columns, [[5, 2, 8], [1, 6, 2], [0, 7, 2]])["exact"].tolist() == [True, True, False]
    assert {name: column.dtype for name, column in columns.items()} == dict.fromkeys(columns, np.dtype("int32"))


def test_messages(tmp_path):
    """Catches: a file that cannot be shown to a chat model."""
    row = load_lines(written(tmp_path / "a.txt", LINES), TASK, prompt_style="chat")[0]
    assert row["prompt"][0]["content"].endswith("2,8|5,2|5,9|9,3/5,8=")
    assert row["completion"] == [{"role": "assistant", "content": "<answer>5,2,8</answer>"}]


@pytest.mark.parametrize(
    ("lines", "name", "said"),
    [
        ([*LINES, "1,2|3"], "a.txt", r"a\.txt, line 4: not a path-star line"),
        (
            [LINES[0], "", "1,6|1,5|5,3|6,2/1,2=1,5,3"],
            "a.txt",
            r"a\.txt, line 3: the path \[1, 5, 3\] in .* is not the",
        ),
        ([LINES[0], "1,6|1,5/1,6=1,6"], "a.txt", r"a\.txt, line 2: .* is not a graph of 2 arms with 3 nodes"),
        (["2,8|5,2|5,9|9,3/5,8="], "a.txt", r"a\.txt, line 1: .* has no path; give the answer behind the prompt"),
        (["", " "], "a.txt", r"a\.txt holds no line"),
        (["hello"], "a.txt", r"a\.txt, line 1: not a path-star line"),
        (["{"], "a.jsonl", r"a\.jsonl, line 1: "),
        (["[1]"], "a.jsonl", r"a\.jsonl, line 1: .* has no `prompt` and `completion` that are text"),
        ([json.dumps({"prompt": [{"role": "user"}], "completion": "1"})], "a.jsonl", "line 1: .* that are text"),
    ],
)
def test_lines_that_are_none(lines, name, said, tmp_path):
    """Catches: a line passed over in silence, a wrong answer trained on, an error that does not say where."""
    with pytest.raises(ValueError, match=said):
        load_lines(written(tmp_path / name, lines))


def test_a_file_that_is_no_text(tmp_path):
    """Catches: a decoding error that names no file."""
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe1,2")
    with pytest.raises(ValueError, match=r"a\.txt is no text in UTF-8"):
        load_lines(tmp_path / "a.txt")


def test_labels_are_those_of_the_task(tmp_path):
    """Catches: a label above the task's, which its tokenizer would refuse much later."""
    path = written(tmp_path / "a.txt", ["2,80|5,2|5,9|9,3/5,80=5,2,80"])
    assert load_lines(path)[0]["goal"] == 80
    with pytest.raises(ValueError, match=r"label 80 in .* is not below num_nodes=10"):
        load_lines(path, TASK)


@dataclasses.dataclass(frozen=True)
class Unread(PathStar):
    """A task of a user's own that reads no text."""

    def parse(self, text):
        return super(PathStar, self).parse(text)


def test_a_task_that_reads_no_text(tmp_path):
    """Catches: a trace in place of what is missing."""
    with pytest.raises(ValueError, match="Unread reads no text back: it has no `parse`"):
        load_lines(written(tmp_path / "a.txt", LINES), Unread(2, 3, 10))


# ---------------------------------------------------------------- splits


BIG = PathStar(2, 4, 50)


def files(tmp_path, **splits):
    """Files of drawn rows, each named by its split, of which another split may be the source."""
    found = {}
    for name, (source, n) in splits.items():
        found[name] = str(written(tmp_path / f"{name}.txt", drawn(BIG, n, source)[1]))
    return found


def test_splits_from_files(tmp_path):
    """Catches: rows drawn in place of a file's, a count that does not cut it, another order of the splits."""
    given = files(tmp_path, train=("train", 30), test=("test", 20))
    splits = load_splits(BIG, num_train=25, num_validation=5, num_test=50, files=given | {"validation": None})
    assert {name: len(rows) for name, rows in splits.items()} == {"validation": 5, "train": 25, "test": 20}
    assert splits["train"].to_list() == drawn(BIG, 25)[0].to_list()
    assert splits["test"].to_list() == drawn(BIG, 20, "test")[0].to_list()
    whole = load_splits(BIG, files=files(tmp_path, train=("train", 3), validation=("validation", 3), test=("test", 3)))
    assert [len(rows) for rows in whole.values()] == [3, 3, 3]
    assert {*load_splits(BIG, 25, 5, 0, files={"test": given["test"]})} == {"validation", "train"}
    with pytest.raises(ValueError, match="prompt_style='messages' is not a choice"):
        load_lines(given["test"], BIG, "messages")


def test_files_that_share_problems(tmp_path):
    """Catches: a test on what was trained on, called held out."""
    given = files(tmp_path, train=("train", 30), test=("train", 10))
    counts = {"num_train": 30, "num_validation": 5, "num_test": 10}
    with pytest.raises(ValueError, match=r"^10 of 10 rows of test pose a problem of train, or .*overlap='allow'"):
        load_splits(BIG, **counts, files=given)
    assert len(load_splits(BIG, **counts, files=given, overlap="allow")["test"]) == 10
    with pytest.raises(ValueError, match=r"^10 of 10 rows of test "):  # of drawn training rows, too
        load_splits(BIG, **counts, files={"test": given["test"]})
    assert [*load_splits(BIG, num_train=0, num_validation=0, files=given | {"train": None})] == ["test"]


def test_streams_and_files(tmp_path):
    """Catches: endless training rows that are the file's, too."""
    given = files(tmp_path, test=("test", 10))
    with pytest.raises(ValueError, match="streaming draws training rows without end, so test cannot be read"):
        load_splits(BIG, streaming=True, files=given)
    splits = load_splits(BIG, streaming=True, num_validation=2, overlap="allow", files=given)
    assert len(splits["test"]) == 10
    with pytest.raises(ValueError, match="no file for train"):
        load_splits(BIG, streaming=True, overlap="allow", files={"train": given["test"]})
