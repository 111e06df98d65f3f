"""Ctrl-C and SIGTERM: a checkpoint, a line that says where, an exit code, and a run that goes on as if never
stopped."""

import signal
import socket

import drill
import pytest
from drill import Fault

from nt_failures.training import checkpoint_files

FLAGS = (
    "--degree 2 --path_length 3 --num_nodes 10 --num_train 80 --num_validation 8 --num_test 8 --use_cpu true "
    "--sample_rows 0 --model gpt2-1x16 --max_steps 8 --eval_strategy no --save_strategy no "
    "--per_device_train_batch_size 4 --per_device_eval_batch_size 8 --gradient_accumulation_steps 2 --disable_tqdm "
    "true "
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The cache, and the weights of a run that nothing stopped."""
    cache = tmp_path_factory.mktemp("whole")
    assert drill.run(FLAGS, cache / "run", cache).code == 0
    return cache, (cache / "run" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_goes_on(whole, tmp_path, number, code):
    """Catches: steps lost to a pre-emption because nothing was saved, an exit code of 0, a checkpoint nobody can
    find."""
    cache, weights = whole
    folder = tmp_path / "run"
    ended = drill.run(FLAGS, folder, cache, Fault(3, signals=(number,)))
    assert (ended.code, ended.steps) == (code, [1, 2, 3]), ended.text
    assert f"{number.name}: saving a checkpoint after this step" in ended.text
    assert f"stopped at step 3; checkpoint saved in {folder / 'checkpoint-3'}" in ended.text
    assert "the same command with --resume goes on" in ended.text
    assert "Traceback" not in ended.text
    assert not (folder / "results.json").exists()
    ended = drill.run(FLAGS + "--resume", folder, cache)
    assert (ended.code, ended.steps) == (0, [4, 5, 6, 7, 8]), ended.text
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_stopped_at_the_last_step(whole, tmp_path):
    """Catches: a run complete but for its test that trains one step too many when it goes on, or is refused."""
    cache, weights = whole
    folder = tmp_path / "run"
    assert drill.run(FLAGS, folder, cache, Fault(8, signals=(signal.SIGTERM,))).code == 143
    ended = drill.run(FLAGS + "--resume", folder, cache)
    assert (ended.code, ended.steps) == (0, []), ended.text
    assert (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "results.json").exists()


@pytest.mark.slow
def test_a_second_signal_stops_at_once(whole, tmp_path):
    """Catches: a run that cannot be interrupted while it is about to save."""
    folder = tmp_path / "run"
    ended = drill.run(FLAGS, folder, whole[0], Fault(3, signals=(signal.SIGINT, signal.SIGINT)))
    assert ended.code == 130
    assert "Traceback" not in ended.text
    assert checkpoint_files.in_order(folder) == []
    ended = drill.run(FLAGS + "--resume", folder, whole[0], Fault(3, signals=(signal.SIGTERM, signal.SIGTERM)))
    assert ended.code == -signal.SIGTERM
    assert checkpoint_files.in_order(folder) == []


def two(flags, folder, cache, fault=None):
    """Two processes that train as one; the fault is the second's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [shared | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(2)]
    started = [drill.start(flags, folder, cache, fault if i else None, rank) for i, rank in enumerate(ranks)]
    return [drill.finish(*process) for process in started]


@pytest.mark.slow
def test_processes_stop_together(whole, tmp_path):
    """Catches: one process of two that stops alone, and the other that waits for it for ever; two that resume apart."""
    cache, flags = whole[0], FLAGS + "--ddp_backend gloo --objective masked_teacher "
    assert [ended.code for ended in two(flags, tmp_path / "whole", cache)] == [0, 0]
    folder = tmp_path / "run"
    stopped = two(flags, folder, cache, Fault(3, signals=(signal.SIGTERM,)))
    assert [(ended.code, ended.steps) for ended in stopped] == [(143, [1, 2, 3])] * 2, stopped
    assert "checkpoint saved in" in stopped[0].text
    assert "checkpoint saved in" not in stopped[1].text
    assert checkpoint_files.damage(folder / "checkpoint-3") is None
    resumed = two(flags + "--resume", folder, cache)
    assert [(ended.code, ended.steps) for ended in resumed] == [(0, [4, 5, 6, 7, 8])] * 2, resumed
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
