"""What a launcher was asked for, and what it started: `accelerate launch` on a CPU starts one process and does not say so."""

import os
from collections.abc import Mapping

import torch


def needs_cpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is one of several processes and there is no GPU for it.

    Unless told to use the CPU, accelerate then joins nothing: each process would train alone, all into the same folder.
    """
    several = "LOCAL_RANK" in environment and int(environment.get("WORLD_SIZE", "1")) > 1
    device = torch.accelerator.current_accelerator()
    return several and (device is None or device.type == "mps")


def said(script: str, world_size: int, environment: Mapping[str, str] = os.environ) -> str | None:
    """What to tell somebody who asked `accelerate launch` for several processes and got one; None if there is nothing to tell.

    Its launcher for one process leaves an address to meet at only where several were asked for (seen in accelerate 1.15).
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment
    if world_size > 1 or not launched or "WORLD_SIZE" in environment:
        return None
    return (
        "note: accelerate launch was asked for several processes, and without GPUs it has started one; this run trains "
        f"in one process. For two on the CPU:\n  torchrun --nproc_per_node 2 {script} ...\n"
        f"or: accelerate launch --config_file examples/accelerate_configs/cpu_2.yaml {script} ..."
    )
