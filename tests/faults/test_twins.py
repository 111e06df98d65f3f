"""The same command started twice: one trains, the other is refused, whatever the timing; a dead one stands in nobody's
way."""

import os
import signal

import drill
import pytest
from drill import Fault

pytestmark = pytest.mark.slow

FLAGS = (
    "--degree 2 --path_length 3 --num_nodes 10 --num_train 80 --num_validation 8 --num_test 8 --use_cpu true "
    "--sample_rows 0 --model gpt2-1x16 --max_steps 4 --eval_strategy no --save_strategy no "
    "--per_device_train_batch_size 4 --per_device_eval_batch_size 8 --disable_tqdm true "
)


@pytest.fixture
def twin(tmp_path):
    """Another name of the run's folder, so that both processes keep notes of their own."""
    (tmp_path / "run").mkdir()
    (tmp_path / "twin").symlink_to("run")
    return tmp_path / "twin"


def test_both_at_once(tmp_path, twin):
    """Catches: two processes that train into one folder because each found it empty."""
    started = [drill.start(FLAGS, folder, tmp_path) for folder in (tmp_path / "run", twin)]
    first, second = sorted((drill.finish(*process) for process in started), key=lambda ended: ended.code)
    assert (first.code, first.steps) == (0, [1, 2, 3, 4]), first.text
    assert (second.code, second.steps) == (1, []), second.text
    assert "error: another process is at work in" in second.text or "is not empty" in second.text


@pytest.mark.parametrize("flag", ["", "--overwrite_output_dir"])
def test_one_is_at_work(tmp_path, twin, flag):
    """The first stands still within its third step while the second is tried.

    Catches: a folder that holds the arguments alone taken for one that an earlier run left; `--overwrite_output_dir`
    that clears the folder of a run under way.
    """
    os.mkfifo(tmp_path / "run-0.steps")
    process, _ = drill.start(FLAGS, tmp_path / "run", tmp_path, Fault(3, signals=(signal.SIGSTOP,)))
    try:
        with open(tmp_path / "run-0.steps", encoding="utf-8") as steps:
            assert steps.read(6) == "1,2,3,"
            before = sorted(path.name for path in twin.iterdir())
            ended = drill.run(FLAGS + flag, twin, tmp_path)
            assert (ended.code, ended.steps) == (1, []), ended.text
            assert (
                f"error: another process is at work in output_dir '{twin}'; wait until it ends, or give" in ended.text
            )
            assert sorted(path.name for path in twin.iterdir()) == before == [".lock", "arguments.json"]
            os.kill(process.pid, signal.SIGCONT)
            assert steps.read() == "4,"
        process.join(drill.LONGEST)
        assert process.exitcode == 0
    finally:
        process.kill()
    assert (twin / "results.json").exists()


def test_a_dead_one(tmp_path):
    """Catches: a lock file that outlives its process, and then is taken for a lock."""
    assert drill.run(FLAGS, tmp_path / "run", tmp_path, Fault(3)).code == -9
    assert (tmp_path / "run" / ".lock").exists()
    ended = drill.run(FLAGS, tmp_path / "run", tmp_path)
    assert (ended.code, ended.steps) == (0, [1, 2, 3, 4]), ended.text
