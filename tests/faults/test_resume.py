"""Training that is killed, 20 times in all, ends with the weights of training that never was, bit for bit."""

import itertools
import random

import drill
import pytest
from drill import Fault

from nt_failures.training import checkpoint_files

STEPS, EVERY = 12, 2
TINY = (
    "--degree 2 --path_length 3 --num_nodes 10 --num_train 80 --num_validation 8 --num_test 8 --use_cpu true "
    f"--sample_rows 0 --max_steps {STEPS} --eval_strategy no --save_strategy steps --save_steps {EVERY} "
    "--save_total_limit 1 --per_device_train_batch_size 4 --gradient_accumulation_steps 2 "
    "--per_device_eval_batch_size 8 --disable_tqdm true "
)
MAMBA = '--model mamba-1x16 --config_overrides {"state_size":4} '
GPT2 = '--model gpt2-1x16 --config_overrides {"resid_pdrop":0.1,"embd_pdrop":0.1} '
RUNS = {
    "gpt2-next_token-fixed-adamw": GPT2 + "--objective next_token",
    "gpt2-teacherless-stream-muon": GPT2 + "--objective teacherless --streaming --optimizer muon",
    "mamba-next_token-stream-adamw": MAMBA + "--objective next_token --streaming",
    "mamba-teacherless-fixed-muon": MAMBA + "--objective teacherless --optimizer muon",
    "gpt2-masked_teacher-fixed-adamw": GPT2 + "--objective masked_teacher",
}
"""80 rows in updates of 8: ten updates are an epoch, and the last two steps fall into the next one."""
KILLS = 4


def draw_faults():
    """For each run four places to die, drawn by a fixed seed: the steps rise, so each is reached; every second one
    saves."""
    rng = random.Random(0)
    spots = itertools.cycle(rng.sample(drill.SPOTS[1:], len(drill.SPOTS) - 1))
    steps = {name: sorted(rng.sample(range(1, STEPS + 1), KILLS)) for name in RUNS}
    return {name: [Fault(at, "step" if at % EVERY else next(spots)) for at in steps[name]] for name in RUNS}


FAULTS = draw_faults()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_and_resumed_is_never_killed(name, tmp_path):
    """Catches: batches seen twice or never, another dropout or mask, a lost optimizer state, half a checkpoint loaded,
    the last whole checkpoint rotated away."""
    flags = TINY + RUNS[name] + " --resume"
    assert drill.run(flags, tmp_path / "whole", tmp_path).code == 0
    folder, at, passed = tmp_path / "killed", 0, None
    for fault in [*FAULTS[name], None]:
        ended = drill.run(flags, folder, tmp_path, fault)
        assert ended.code == (0 if fault is None else -9), ended.text
        assert ended.steps == list(range(at + 1, (STEPS if fault is None else fault.step) + 1))
        assert (passed is None) or f"{passed} is half-written" in ended.text
        if fault is None:
            assert f"goes on from checkpoint-{at}\n" in ended.text
            break
        newest = checkpoint_files.newest_whole(folder)
        at = 0 if newest is None else int(newest.name.removeprefix("checkpoint-"))
        assert at == (fault.step if fault.spot == "rotation" else (fault.step - 1) // EVERY * EVERY)
        passed = folder / f"checkpoint-{fault.step}" if fault.spot in drill.MID_SAVE else None
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_the_drill_kills_everywhere():
    """Catches: a draw of kills that leaves out the middle of a save or the middle of an epoch."""
    drawn = [fault for name in RUNS for fault in FAULTS[name]]
    assert len(drawn) == 20
    assert {fault.spot for fault in drawn} == set(drill.SPOTS)


DRAWS = {
    "hybrid": '--objective_options {"share":0.4}',
    "masked_teacher": "--streaming",
    "registers": '--objective_options {"max_distance":4}',
    "belief_state": '--objective_options {"pair_fraction":0.5} --streaming',
    "masked_diffusion": "--streaming --gradient_accumulation_steps 1",
}
"""Objectives that draw at random while they collate, on the fixed set of 80 rows or on a stream; 0.4 of a batch of 4
is drawn, and a register looks 2, 3 or 4 tokens ahead."""


@pytest.mark.slow
@pytest.mark.parametrize("objective", DRAWS)
def test_what_is_drawn_is_drawn_again(objective, tmp_path):
    """Catches: dummies, distances, gaps or masks that depend on how often the process was started, or on what it has
    collated ahead: another training than the one that was killed, and a curve that nobody can repeat."""
    flags = (
        TINY.replace("path_length 3", "path_length 5") + f"{GPT2}{DRAWS[objective]} --objective {objective} --resume "
    )
    flags += "--max_steps 6"
    assert drill.run(flags, tmp_path / "whole", tmp_path).code == 0
    at = random.Random(f"kill {objective}").randint(3, 6)
    ended = drill.run(flags, tmp_path / "killed", tmp_path, Fault(at))
    assert (ended.code, ended.steps) == (-9, list(range(1, at + 1))), ended.text
    ended = drill.run(flags, tmp_path / "killed", tmp_path)
    assert (ended.code, ended.steps) == (0, list(range((at - 1) // EVERY * EVERY + 1, 7))), ended.text
    for name in ("model.safetensors", "objective_modules.safetensors"):
        if (tmp_path / "whole" / name).exists():
            assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
