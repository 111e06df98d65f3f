"""examples/benchmarks/on_a_gpu.sh with a stand-in for python3, and what its scripts say without a GPU."""

import subprocess
from pathlib import Path

import pytest
import torch
from scripts import load

from nt_failures.experiments import command_line

ROOT = Path(__file__).parents[2]
STEPS = {"objectives", "compile", "speed", "compiled", "large"}
SCRIPT = ROOT / "examples" / "benchmarks" / "on_a_gpu.sh"


def run(tmp_path, *words, code=0):
    """What the script printed, and the words of each command that it started."""
    stand_in = tmp_path / "bin" / "python3"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/asked-$$\necho said\nexit {code}\n')
    stand_in.chmod(0o755)
    env = {"PATH": f"{stand_in.parent}:/usr/bin:/bin"}
    ended = subprocess.run(["bash", SCRIPT, *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    return ended, [asked.read_text().splitlines() for asked in tmp_path.glob("asked-*")]


@pytest.mark.parametrize(("part", "steps"), [("check", 5), ("train", 13)])
def test_every_command_is_one_that_its_script_takes(part, steps, tmp_path, monkeypatch):
    """Catches: a flag with a typo, found when the time on the GPU has begun."""
    monkeypatch.chdir(ROOT)
    ended, commands = run(tmp_path, "out", part)
    assert ended.returncode == 0
    assert len(commands) == len(ended.stdout.splitlines()) == steps
    for script, *flags in commands:
        if script == "examples/train.py":
            command_line.parse([*flags, "--use_cpu", "--tf32", "false"])  # which a CPU does not have
        else:
            assert all(f'"{flag}"' in (ROOT / script).read_text() for flag in flags if flag.startswith("--"))


def test_a_step_that_fails_takes_no_other_along(tmp_path):
    """Catches: minutes on a GPU that end with the first error, a failure that nobody is told of."""
    ended, commands = run(tmp_path, "out", "check", code=3)
    told = (tmp_path / "out" / "steps.txt").read_text().splitlines()
    assert sorted(ended.stdout.splitlines()) == sorted(told)
    assert {line.partition(", ")[0] for line in told} == {f"{n}: exit code 3" for n in STEPS}
    assert len(commands) == len(told) == len(STEPS)
    assert (tmp_path / "out" / "speed.log").read_text() == "said\n"


@pytest.mark.parametrize("words", [(), ("out",), ("out", "trian")], ids=len)
def test_what_is_no_part_is_refused(words, tmp_path):
    """Catches: a typo that does nothing and says so with exit code 0, or leaves a folder behind."""
    ended, commands = run(tmp_path, *words)
    assert (ended.returncode, commands) == (2, [])
    assert ended.stderr.startswith("usage: bash examples/benchmarks/on_a_gpu.sh FOLDER check|train")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("script", "done"), [("cuda_check", "checked"), ("cuda_speed", "measured")])
def test_without_a_gpu_they_say_so(script, done, tmp_path, monkeypatch):
    """Catches: figures of a CPU as those of a GPU, an exit code of 0, a traceback."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:  # with a text as code: it goes to stderr, and the exit code is 1
        load(SCRIPT.with_name(f"{script}.py")).main([])
    assert stop.value.code == f"{script}: torch finds no CUDA device on this machine, so nothing was {done}."
    assert list(tmp_path.iterdir()) == []
