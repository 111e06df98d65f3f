"""Throughput: tokens and FLOPs a second of a training, and their share of the hardware's peak (MFU)."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator

from nt_failures.hub.environment import device_name
from nt_failures.models.compat import attention_kernel, is_recurrent

WARM_UP = 3
"""Steps left out: in the first FLOPs are counted, in the second torch.compile compiles, the third is to be sure."""

HOPPER = {"bf16": 989.5e12, "fp16": 989.5e12, "tf32": 494.5e12, "fp32": 67e12}
AMPERE = {"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12}
A100 = [f"NVIDIA A100{form}" for form in ("-SXM4-40GB", "-SXM4-80GB", "-PCIE-40GB", " 80GB PCIe")]
PEAKS = {"NVIDIA H200": HOPPER, "NVIDIA H100 80GB HBM3": HOPPER} | dict.fromkeys(A100, AMPERE)
"""Peak dense FLOPs a second of one device, by torch's full name for it.

NVIDIA's figures of the H200 SXM, H100 SXM and A100, as technical pages repeat them, halved where they are "with
sparsity". A name that is not here, a part of a GPU (MIG) and a CPU have no known peak, and so no MFU.
"""


def precision(device: torch.device, mixed: str, dtype: torch.dtype) -> str:
    """Of a model's matrix products, as a column of `PEAKS`."""
    for name, half in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        if mixed == name or dtype == half:
            return name
    tf32 = "tf32" in (torch.backends.cuda.matmul.fp32_precision, torch.backends.fp32_precision)
    return "tf32" if tf32 and device.type == "cuda" else "fp32"


class Clock:
    """Seconds, tokens and FLOPs of training steps, without the evaluations and checkpoints between them."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seen = self.steps = self.tokens = self.flops = 0
        self.seconds = 0.0
        self._since: float | None = None
        self._step: int | None = None

    def batch(self, tokens: int, flops: int) -> None:
        """A batch was trained on; a step may take several."""
        if self._since is not None:
            self.tokens += tokens
            self.flops += flops

    @contextlib.contextmanager
    def after(self, step: int, busy: bool, last: bool) -> Iterator[None]:
        """Wraps what comes behind a step: its time is left out if `busy`, and the clock stops if it was the `last`."""
        if step != self._step:
            self._step = step
            self.seen += 1
            self.steps += self._since is not None
        pause = busy or last or (self._since is None and self.seen >= WARM_UP)
        if pause:
            self._stop()
        yield
        if pause and not last and self.seen >= WARM_UP:
            self._since = time.perf_counter()

    def _stop(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()  # else a step seems to take as long as it takes to ask
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def total(self, accelerator: Accelerator, model: torch.nn.Module) -> dict[str, Any] | None:
        """What was measured over all processes, which all must ask alike; None if no step came behind the warm-up.

        JSON-ready. Tokens include padding, FLOPs are those of `StepFlops`; `peak_flops` is that of all devices, in the
        `precision` of the matrix products, and `mfu` the share of it (0..1); both are None where it is not known.
        """
        self._stop()
        if not self.steps:
            return None
        device, processes = self.device, accelerator.num_processes
        sums = torch.tensor([self.tokens, self.flops / 1e9], dtype=torch.float32, device=device)  # seven digits will do
        tokens, gigaflops = accelerator.reduce(sums).tolist()
        name = device_name(device)
        used = precision(device, accelerator.mixed_precision, model.dtype)
        flops, peak = gigaflops * 1e9 / self.seconds, PEAKS[name][used] * processes if name in PEAKS else None
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": tokens / self.seconds,
            "flops_per_second": flops,
            "peak_flops": peak,
            "device": name,
            "processes": processes,
            "precision": used,
            "attention": None if is_recurrent(model) else attention_kernel(model),
            "compiled": accelerator.state.dynamo_plugin.backend.value != "NO",
            "mfu": peak and flops / peak,
        }
