"""What a study's process does, and where the folders that it keeps go; in this process, without a training."""

import json
from pathlib import Path

import fsspec
import pytest

from nt_failures.experiments import run
from nt_failures.experiments.study import storage, worker
from nt_failures.experiments.study.job import Job, Key
from nt_failures.objectives import Teacherless
from nt_failures.tasks import find_task


@pytest.fixture
def job(tmp_path):
    """A recipe, and flags over it."""
    (tmp_path / "r.yaml").write_text("max_steps: 4\n")
    return Job(tmp_path / "r.yaml", 3, ("--order", "reversed"))


def test_a_failure_is_told_with_its_log_and_leaves_no_folder(job, tmp_path, monkeypatch):
    """Catches: flags that do not reach the run, an error without what was printed before it, a folder left behind."""

    def fails(words):
        print("asked for", *words[1:3], *words[-2:])
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(run, "main", fails)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    ended = worker.train(job, str(scratch))
    assert ended.failed == "RuntimeError: two lines"
    assert ended.log.startswith("asked for --seed 3 --order reversed\nTraceback")
    assert list(scratch.iterdir()) == []


def test_a_divergence_is_no_failure(job, monkeypatch):
    """Catches: a recipe given up for one seed whose loss is NaN; a line that says not of which objective."""
    arguments = {"data": {"task": "hops"}, "objective": {"objective": "teacherless"}}

    def diverges(words):
        folder = Path(words[words.index("--output_dir") + 1])
        folder.mkdir()
        (folder / "arguments.json").write_text(json.dumps(arguments))
        raise FloatingPointError("the loss became NaN at step 7")

    monkeypatch.setattr(run, "main", diverges)
    ended = worker.train(job)
    assert (ended.diverged, ended.failed) == ("the loss became NaN at step 7", "")
    now = {"task": str(find_task("hops").VERSION), "objective": str(Teacherless.VERSION)}
    assert ended.defined == {"arguments": arguments, "versions": now}


@pytest.mark.parametrize("root", ["memory://kept", "folder"])
def test_a_folder_is_whole_or_has_no_mark(root, tmp_path, monkeypatch):
    """Catches: a broken copy taken for a whole one; a second copy mixed with the first; a path that depends on where a
    process was started; a folder's name read as a pattern."""
    monkeypatch.chdir(tmp_path)
    run_folder = tmp_path / "run [1]"
    (run_folder / "inner").mkdir(parents=True)
    (run_folder / "inner" / "b.bin").write_bytes(b"12345")
    (run_folder / "a.txt").write_text("a")
    target = storage.place(root if "://" in root else storage.located(root), Key("r", 0, "0123"))
    assert target.endswith("/r-0123/seed0")
    files, where = fsspec.core.url_to_fs(target)
    put, broken = type(files).put_file, []

    def breaks(self, source, *args, **kwargs):
        if source.endswith("b.bin") and not broken:
            broken.append(source)
            raise OSError("the connection broke")
        return put(self, source, *args, **kwargs)

    monkeypatch.setattr(type(files), "put_file", breaks)
    with pytest.raises(OSError, match="the connection broke"):
        storage.publish(run_folder, target)
    assert not files.exists(f"{where}/{storage.WHOLE}")
    (run_folder / "a.txt").rename(run_folder / "c.txt")
    storage.publish(run_folder, target)
    names = sorted(path.removeprefix(where) for path in files.find(where))
    assert names == ["/WHOLE.json", "/c.txt", "/inner/b.bin"]
    assert files.cat_file(f"{where}/inner/b.bin") == b"12345"


def test_a_place_that_keeps_nothing_is_refused_at_the_start(tmp_path, monkeypatch):
    """Catches: models that end with the process that wrote them; a training whose copy then fails."""
    with pytest.raises(ValueError, match=r"--storage_path memory://kept ends with the process that writes to it"):
        storage.located("memory://kept")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--storage_path .*file/models cannot be written to \(NotADirectoryError"):
        storage.located(str(tmp_path / "file" / "models"))
    assert storage.located(str(tmp_path / "models")) == str(tmp_path / "models")
    assert [*(tmp_path / "models").iterdir()] == []
