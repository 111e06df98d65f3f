"""The builder on a bad day: killed, starved of disk, run twice at once, and found with damaged files."""

import builtins
import errno
import inspect
import os
import re
import warnings
from pathlib import Path

import datasets
import numpy as np
import processes
import pyarrow as pa
import pytest
from datasets import load_dataset
from plain_rows import plain_rows
from stand_in import ends

from nt_failures.data import tokenizer as tokenizer_module
from nt_failures.data.builder import PathStarBuilder
from nt_failures.data.columns import to_table
from nt_failures.data.tokenizer import tokenize, word_level_tokenizer
from nt_failures.tasks.path_star import PathStar

pytestmark = pytest.mark.slow


def prepared(cache, rows, num_proc=1):
    builder = PathStarBuilder(cache_dir=str(cache), num_train=rows, num_test=10)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset("train")


def truth(rows):
    """The digest of the rows as the task draws them, without any builder."""
    task = PathStar()
    blocks = [to_table(task, task.block(0, "train", b)) for b in range(-(-rows // 4096))]
    whole = datasets.concatenate_datasets([datasets.Dataset(table) for table in blocks])
    return processes.digest(whole.select(range(rows)))


def test_two_processes_prepare_the_same_config(tmp_path):
    """Catches: two writers of one file; a second process that reads what the first has not finished."""
    both = [processes.build(tmp_path, 100_000) for _ in range(2)]
    assert [processes.finish(p)[:2] for p in both] == [(0, "100000\n")] * 2
    assert processes.digest(prepared(tmp_path, 100_000)) == truth(100_000)
    assert len(list(tmp_path.rglob("*.arrow"))) == 2, "train and test, once"
    assert processes.unfinished(tmp_path) == []


def test_killed_in_the_middle(tmp_path):
    """Catches: half a data set that the next call takes for whole; what a killed call left, kept for ever."""
    processes.kill(processes.build(tmp_path, 100_000, stop_after=5_000_000), writers=1)
    assert processes.unfinished(tmp_path), "it was killed too late to matter"
    assert processes.digest(prepared(tmp_path, 100_000)) == truth(100_000)
    assert len(list(tmp_path.rglob("*.arrow"))) == 2
    assert processes.unfinished(tmp_path) == []


def test_workers_of_a_killed_call(tmp_path):
    """Catches: workers that outlive their call and write on into files of the next one, which divides the rows in
    another way. They stand still in the middle of their files: one that only looks after its next batch stays."""
    process = processes.build(tmp_path, 100_000, num_proc=2, stop_after=2_000_000)
    try:
        workers = processes.kill(process, writers=2)
        assert process.pid not in workers
        assert all(map(ends, workers))
        assert processes.digest(prepared(tmp_path, 100_000, num_proc=3)) == truth(100_000)
        assert len(list(tmp_path.rglob("*.arrow"))) == 4
    finally:
        processes.sweep(process)


@pytest.mark.parametrize("num_proc", [1, 2])
def test_full_disk(tmp_path, num_proc):
    """Catches: half a data set kept; 'Cannot find data file' or 'An error occurred' for a disk that is full. The disk
    is a small file system in memory, made for this test; where none may be mounted, a limit on the size of files
    stands for it."""
    ended = processes.build_twice_on_a_disk(tmp_path, 100_000, num_proc)
    if ended is None:
        warnings.warn(
            "no file system may be mounted here, so the disk was never full; a limit on files was", stacklevel=1
        )
        status, _, errors = processes.finish(processes.build(tmp_path, 100_000, num_proc, most_bytes=2_000_000))
        assert (status, processes.unfinished(tmp_path)) == (1, [])
        assert processes.digest(prepared(tmp_path, 100_000)) == truth(100_000)
    else:
        status, out, errors = ended
        assert (status, out) == (0, "status 1\n100000\n"), ended
    (last,) = (line for line in errors.splitlines() if line.startswith("OSError: the data set cannot be written below"))
    assert last.startswith(f"OSError: the data set cannot be written below {tmp_path}")
    assert ("File too large" if ended is None else "No space left on device") in last
    assert "another cache_dir" in last


def test_full_disk_at_the_last_file(tmp_path, monkeypatch):
    """Catches: rows without their description, found and read by the next call."""
    write = datasets.DatasetInfo.write_to_directory

    def full(self, *args, **kwargs):
        write(self, *args, **kwargs)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datasets.DatasetInfo, "write_to_directory", full)
    with pytest.raises(OSError, match=r"cannot be written below .*No space left on device.*another cache_dir"):
        prepared(tmp_path, 5000)
    assert list(tmp_path.rglob("*.arrow")) == []
    monkeypatch.setattr(datasets.DatasetInfo, "write_to_directory", write)
    assert processes.digest(prepared(tmp_path, 5000)) == truth(5000)


@pytest.mark.parametrize("finished_before", [False, True])
def test_read_only_cache(tmp_path, monkeypatch, finished_before):
    """Catches: a traceback of a lock file; a read-only cache that is changed all the same."""
    if finished_before:
        prepared(tmp_path, 5000)
    real = {"open": os.open, "mkdir": os.mkdir}

    def refuse(path):
        if str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))

    def open_(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return real["open"](path, flags, *args, **kwargs)

    def mkdir(path, *args, **kwargs):
        if not os.path.isdir(path):
            refuse(path)
        return real["mkdir"](path, *args, **kwargs)

    def write(path, mode="r", *args, opened=builtins.open, **kwargs):
        if set(mode) & set("wax+"):
            refuse(path)
        return opened(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_)
        patch.setattr(os, "mkdir", mkdir)
        patch.setattr(builtins, "open", write)
        with pytest.raises(OSError, match=r"cannot be written below .*Read-only file system.*another cache_dir"):
            prepared(tmp_path, 5000)
    assert processes.digest(prepared(tmp_path, 5000)) == truth(5000)


def test_a_cache_below_a_file(tmp_path):
    """Catches: a message that does not name the folder or what to give in its place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written below .*file/cache: .*another cache_dir"):
        prepared(tmp_path / "file" / "cache", 10)
    assert len(prepared(tmp_path / "cache", 10)) == 10


def cut(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: keep(len(content))])


DAMAGE = {
    "cut in the middle": lambda arrow: cut(arrow, lambda size: size // 2),
    "cut between two batches": lambda arrow: cut(arrow, lambda size: end_of_batches(arrow, 3)),
    "empty": lambda arrow: arrow.write_bytes(b""),
    "missing": lambda arrow: arrow.unlink(),
    "something else": lambda arrow: arrow.write_bytes(b"PAR1" * 1000),
    "a description cut short": lambda arrow: cut(arrow.parent / "dataset_info.json", lambda size: size // 2),
    "an empty description": lambda arrow: (arrow.parent / "dataset_info.json").write_bytes(b""),
}


def end_of_batches(arrow, count):
    """Where the message of the given batch ends: cut there, the file is a valid stream of fewer rows."""
    with pa.OSFile(str(arrow)) as file:
        reader = pa.ipc.MessageReader.open_stream(file)
        for _ in range(count + 1):  # the schema is a message, too
            reader.read_next_message()
        return file.tell()


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_are_never_read(tmp_path, case):
    """Catches: an Arrow file cut between two batches, which reads as a shorter data set without a word."""
    rows = prepared(tmp_path, 20_000)
    (arrow,) = tmp_path.rglob("*train.arrow")
    del rows
    DAMAGE[case](arrow)
    for read in (lambda: prepared(tmp_path, 20_000), lambda: _load(tmp_path)):
        with pytest.raises(ValueError, match=r"is damaged \(.*remove that folder") as error:
            read()
    named = Path(re.search(r"the data set in (.*) is damaged", str(error.value))[1])
    assert named == arrow.parent
    for left in named.iterdir():
        left.unlink()
    named.rmdir()
    assert processes.digest(prepared(tmp_path, 20_000)) == truth(20_000)


def _load(cache):
    return load_dataset("nt_failures/pathstar", cache_dir=str(cache), num_train=20_000, num_test=10)


def test_parts_of_splits_are_whole(tmp_path):
    """Catches: a check of completeness that refuses a part of a split, or that renames an unknown split to damage."""
    prepared(tmp_path, 5000)
    builder = PathStarBuilder(cache_dir=str(tmp_path), num_train=5000, num_test=10)
    instruction = datasets.ReadInstruction("train", from_=10, to=20, unit="%")
    assert [len(builder.as_dataset(s)) for s in ("train[:7]", "train[:7]+test", instruction, "all")] == [
        7,
        17,
        500,
        5010,
    ]
    with pytest.raises(ValueError, match="Unknown split"):
        builder.as_dataset("dev")


def test_changed_code_never_meets_old_rows(tmp_path, monkeypatch):
    """Catches: rows, or ids of them, that were made by other code and come back from the same cache."""
    tokenizer = word_level_tokenizer(PathStar())
    first = prepared(tmp_path, 100)
    old = tokenize(first, tokenizer)
    sample, read, changed = PathStar.sample, Path.read_bytes, [Path(inspect.getfile(PathStar))]
    monkeypatch.setattr(
        PathStar, "sample", lambda self, rng, n: sample(self, np.random.default_rng(rng.integers(999)), n)
    )
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path in changed))
    second = prepared(tmp_path, 100)
    assert not set(first["prompt"]) & set(second["prompt"])
    assert second.to_list() == list(plain_rows(PathStar(), num_rows=100))
    changed.append(Path(tokenizer_module.__file__))
    sevens = pa.array([[7]] * 100, pa.list_(pa.int32()))
    columns = ("prefix_ids", "target_ids", "target_positions")
    monkeypatch.setattr(tokenizer_module, "_encode_words", lambda *texts: dict.fromkeys(columns, sevens))
    assert tokenize(first, tokenizer)["prefix_ids"][:] == [[7]] * 100
    monkeypatch.undo()
    assert tokenize(prepared(tmp_path, 100), tokenizer).to_list() == old.to_list()
