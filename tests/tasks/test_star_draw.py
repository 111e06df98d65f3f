"""The compiled loop draws the rows that NumPy draws, leaves the generator where NumPy leaves it, and else steps aside."""

import shutil
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest

from nt_failures.tasks import _star_draw
from nt_failures.tasks.path_star import PathStar

SIZES = [(2, 5, 50), (5, 5, 50), (20, 5, 100), (2, 20, 50), (1, 2, 2), (1, 2, 9), (1, 9, 9), (3, 2, 4), (2, 4, 7)]
SIZES += [(2, 5, 256), (2, 5, 257), (40, 3, 1000), (2, 5, 2**16)]


def test_the_loop_was_compiled():
    """Catches: an extension that no longer builds; without a compiler NumPy draws, and the tests below hold of that."""
    compiler = (sysconfig.get_config_var("CC") or "none").split()[0]
    can_build = shutil.which(compiler) and Path(sysconfig.get_path("include"), "Python.h").is_file()
    assert _star_draw.COMPILED or not can_build, "install again: pip install -c constraints.txt -e ."


def test_a_loop_of_another_source_is_not_used(monkeypatch):
    """Catches: rows of a loop that was compiled before its source was mended."""
    if not _star_draw.COMPILED:
        return
    assert _star_draw._compiled() is _star_draw._star_loop
    monkeypatch.setattr(_star_draw._star_loop, "SOURCE_DIGEST", "0" * 64)
    assert _star_draw._compiled() is None


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, column in ours.items():
        assert column.dtype == theirs[name].dtype
        assert column.flags.c_contiguous
        assert np.array_equal(column, theirs[name]), name


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 2, 6, 8, 62, 64, 66, 130, 999, 1000])
def test_rows_are_numpys(size, n):
    """Catches: another stream, a last tile or lane that is not full, what one instance leaves to the next, narrow labels."""
    task, ours, theirs = PathStar(*size), np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(2):
        assert_same(task.sample(ours, n), task.sample_by_numpy(theirs, n))
        assert ours.bit_generator.state == theirs.bit_generator.state


def test_numbers_that_have_to_be_drawn_again():
    """Catches: a bias, or another stream, where a number is drawn again: of some of these seeds, by NumPy."""
    task, stepped_aside = PathStar(2, 21, 60_000), 0
    for seed in range(40):
        ours, theirs, asked = (np.random.default_rng(seed) for _ in range(3))
        assert_same(task.sample(ours, 2048), task.sample_by_numpy(theirs, 2048))
        assert ours.bit_generator.state == theirs.bit_generator.state
        before = asked.bit_generator.state
        if _star_draw.draw(asked, 2048, 2, 21, 60_000) is None:
            stepped_aside += 1
            assert asked.bit_generator.state == before
    assert stepped_aside == 40 if not _star_draw.COMPILED else 0 < stepped_aside < 40


@pytest.mark.parametrize("kind", [np.random.PCG64DXSM, np.random.SFC64, np.random.Philox, np.random.MT19937])
def test_other_generators(kind):
    """Catches: the loop's own generator used in place of the one that was given."""
    task, ours, theirs = PathStar(), np.random.Generator(kind(3)), np.random.Generator(kind(3))
    assert _star_draw.draw(ours, 100, 2, 5, 50) is None
    assert_same(task.sample(ours, 100), task.sample_by_numpy(theirs, 100))
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("n", [1, 2, 7, 64, 65, 129, 200])
@pytest.mark.parametrize("between", [0, 1, 5])
def test_half_of_a_number_left_from_before(n, between):
    """Catches: a half that NumPy would use first and the loop passes by, drawn long before the state it stands beside."""
    task, ours, theirs = PathStar(), np.random.default_rng(3), np.random.default_rng(3)
    for rng in (ours, theirs):
        rng.integers(0, 2**32, 1, np.uint32)
        rng.random(between)
    assert ours.bit_generator.state["has_uint32"] == 1
    for _ in range(3):
        columns = _star_draw.draw(ours, n, 2, 5, 50)
        assert (columns is None) is not _star_draw.COMPILED
        assert_same(columns or task.sample(ours, n), task.sample_by_numpy(theirs, n))
        assert ours.bit_generator.state == theirs.bit_generator.state


def test_without_the_loop(monkeypatch):
    """Catches: an installation without a compiler that fails, or draws other rows."""
    task = PathStar(3, 4, 20)
    whole = task.sample(np.random.default_rng(0), 100)
    monkeypatch.setattr(_star_draw, "_star_loop", None)
    assert _star_draw.draw(np.random.default_rng(0), 100, 3, 4, 20) is None
    assert_same(task.sample(np.random.default_rng(0), 100), whole)


def test_threads_draw_at_the_same_time():
    """Catches: memory that two draws share."""
    task, found = PathStar(20, 5, 100), {}

    def draw(seed):
        rng = np.random.default_rng(seed)
        found[seed] = [task.sample(rng, 512) for _ in range(10)]

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        for columns in found[seed]:
            assert_same(columns, task.sample_by_numpy(rng, 512))


@pytest.mark.parametrize(
    "broken",
    [
        {"degree": 0},
        {"degree": -1},
        {"degree": 2**62},
        {"path_length": 1},
        {"path_length": 2**62},
        {"num_nodes": 8},
        {"num_nodes": 2**16 + 1},
        {"state": 5},
        {"edges": 79},
        {"edges": 81},
        {"source": 9},
        {"source": 0, "goal": 0, "edges": 0, "path": 0},
        {"goal": 8},
        {"path": 49},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit(broken):
    """Catches: a write beyond an array's end."""
    if not _star_draw.COMPILED:
        return
    knobs = {"degree": 2, "path_length": 5, "num_nodes": 50}
    sizes = {"state": 6, "edges": 160, "source": 10, "goal": 10, "path": 50}
    given = {
        "state": np.ones(sizes["state"], dtype=np.uint64),
        **{name: np.zeros(size, dtype=np.int32) for name, size in sizes.items() if name != "state"},
    }
    arguments = [given["state"], *knobs.values(), *(given[name] for name in ("edges", "source", "goal", "path"))]
    assert _star_draw._star_loop.draw(*arguments) is True
    for name, value in broken.items():
        if name in knobs:
            knobs[name] = value
        else:
            given[name] = np.zeros(value, dtype=np.uint64 if name == "state" else np.int32)
    arguments = [given["state"], *knobs.values(), *(given[name] for name in ("edges", "source", "goal", "path"))]
    with pytest.raises(ValueError, match="do not fit together"):
        _star_draw._star_loop.draw(*arguments)


def test_arrays_that_may_not_be_written():
    """Catches: a write into memory that is read-only."""
    if not _star_draw.COMPILED:
        return
    state, edges, few, path = (np.zeros(size, dtype=np.int32) for size in (12, 160, 10, 50))
    edges.flags.writeable = False
    with pytest.raises(TypeError, match="read-write"):
        _star_draw._star_loop.draw(state, 2, 5, 50, edges, few, few.copy(), path)
