"""Where a run took place: versions of the packages, Git commit, hardware."""

import functools
import importlib
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("transformers", "datasets", "accelerate", "numpy")
    own = importlib.import_module("nt_failures").__version__  # by name: the package is above all of its folders
    found = {"python": platform.python_version(), "nt_failures": own, "torch": str(torch.__version__)}
    found |= {name: metadata.version(name) for name in names}
    return found | ({} if commit() is None else {"commit": commit()})


def in_words(found: Mapping[str, str]) -> str:
    """What `versions` found as one line, without the commit."""
    return ", ".join(f"{name} {version}" for name, version in found.items() if name != "commit")


@functools.cache
def commit() -> str | None:
    """Git commit of this package where it runs from a checkout, with a word where files were changed since."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():  # installed: a repository further up is not ours
        return None
    git = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run([*git, "--dirty= and uncommitted changes"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of another user
        return None
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    """That of a GPU as CUDA gives it; of any other device its type, such as `CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def hardware(device: torch.device) -> dict[str, Any]:
    """The name of this device, machine type and threads."""
    return {"device": device_name(device), "machine": platform.machine(), "threads": torch.get_num_threads()}
