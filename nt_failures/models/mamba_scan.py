"""Which selective scan a Mamba runs: mamba-ssm's kernels, this library's torch scan, or transformers' own torch scan.

Without mamba-ssm, transformers scans position by position through autograd, about thirty times slower than a
Transformer of the same size. `use_scan` changes the class of one model's layers: parameters, their names and the saved
files stay transformers' own, copies of the model keep the choice, and no other model is touched.
"""

import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.utils.import_utils import is_causal_conv1d_available, is_mamba_ssm_available

from nt_failures.models.families import SCANS
from nt_failures.models.selective_scan import selective_scan
from nt_failures.registry import check_choice


class TorchScanMixer(MambaMixer):
    """transformers' Mamba-1 layer with this library's scan. Same parameters, same function, other rounding.

    A cache is filled by one pass over a prompt. Later tokens go through transformers' own code one at a time, even if
    several are given at once: its code for those would start their scan at zero.
    """

    def forward(
        self,
        hidden_states: Tensor,
        cache_params: Any = None,
        attention_mask: Tensor | None = None,
        cache: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        cache = cache_params if cache is None else cache  # its name from transformers 5.24 on
        if cache is None:
            return self._scan(hidden_states, attention_mask)[0]
        if torch.is_grad_enabled():  # in transformers' code a cache's states carry gradients
            return super().forward(hidden_states, cache, attention_mask, **kwargs)
        if not cache.has_previous_state(self.layer_idx):
            out_BSH, conv_BDK, state_BDN = self._scan(hidden_states, attention_mask)
            cache.update_conv_state(conv_BDK, self.layer_idx)
            cache.update_recurrent_state(state_BDN, self.layer_idx)
            return out_BSH
        columns = range(hidden_states.shape[1])
        masks = [None if attention_mask is None else attention_mask[:, [t]] for t in columns]
        one_by_one = [
            super(TorchScanMixer, self).forward(hidden_states[:, [t]], cache, masks[t], **kwargs) for t in columns
        ]
        return torch.cat(one_by_one, dim=1)

    def _scan(self, hidden_BSH: Tensor, mask_BS: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output, the last inputs of the convolution (B, D, K) and the last state (B, D, N).

        Casts are where transformers has them: the recurrence is computed in 32 bits, or 64 if the step sizes have them.
        """
        dtype = hidden_BSH.dtype
        u_BSD, gate_BSD = self.in_proj(_masked(hidden_BSH, mask_BS)).chunk(2, dim=-1)
        conv_BDK = F.pad(u_BSD.transpose(1, 2), (self.conv_kernel_size - u_BSD.shape[1], 0))  # also cuts off
        u_BSD = self.act(self.conv1d(u_BSD.transpose(1, 2))[..., : u_BSD.shape[1]]).transpose(1, 2)
        u_BSD = _masked(u_BSD.to(gate_BSD.dtype), mask_BS)
        sizes = [self.time_step_rank, self.ssm_state_size, self.ssm_state_size]
        dt_BSR, B_BSN, C_BSN = self.x_proj(u_BSD).split(sizes, dim=-1)
        dt_BSD = F.linear(dt_BSR, self.dt_proj.weight)
        dt_BSD = F.softplus(dt_BSD + self.dt_proj.bias.float().to(dt_BSD.dtype))
        A_DN = -torch.exp(self.A_log.float())
        exact = torch.promote_types(dt_BSD.dtype, A_DN.dtype)
        dt_BSD, A_ND, B_BSN, C_BSN = (t.to(exact) for t in (dt_BSD, A_DN.T, B_BSN.float(), C_BSN))
        y_BSD, state_BND = selective_scan(dt_BSD, dt_BSD * u_BSD.float(), A_ND.contiguous(), B_BSN, C_BSN)
        y_BSD = (y_BSD + u_BSD * self.D.float()) * F.silu(gate_BSD)
        return self.out_proj(y_BSD.to(dtype)), conv_BDK, state_BND.transpose(1, 2)


def _masked(states_BSD: Tensor, mask_BS: Tensor | None) -> Tensor:
    return states_BSD if mask_BS is None else (states_BSD * mask_BS[:, :, None]).to(states_BSD.dtype)


def use_scan(model: torch.nn.Module, scan: str = "auto") -> None:
    """Choose the scan of all Mamba-1 layers of a model, one of `families.SCANS`; "transformers" undoes earlier calls.

    Raises:
        ValueError: an unknown choice, or "torch" for a model without Mamba-1 layers.
    """
    check_choice("mamba_scan", scan, SCANS)
    if not torch.cuda.is_available():
        logging.getLogger("transformers.integrations.hub_kernels").addFilter(_can_be_acted_on)
    mixers = [module for module in model.modules() if isinstance(module, MambaMixer)]
    if scan == "torch" and not mixers:
        raise ValueError(
            f"mamba_scan='torch' is for Mamba-1 and {type(model).__name__} has no such layer; write 'auto', which "
            "leaves it as it is."
        )
    ours = scan == "torch" or (scan == "auto" and not kernels_installed())
    for mixer in mixers:
        mixer.__class__ = TorchScanMixer if ours else MambaMixer


def _can_be_acted_on(record: logging.LogRecord) -> bool:
    """Whether a record is other than the advice to install mamba-ssm: its kernels run on a CUDA device alone."""
    return "is falling back to its reference PyTorch implementation" not in record.getMessage()


def kernels_installed() -> bool:
    """Whether mamba-ssm and causal-conv1d can run here, by transformers' own test: both packages, and a CUDA device."""
    return is_mamba_ssm_available() and is_causal_conv1d_available()


def uses_torch_scan(model: torch.nn.Module) -> bool:
    """Whether the model's Mamba-1 layers run this library's scan."""
    return any(isinstance(module, TorchScanMixer) for module in model.modules())


def running(model: torch.nn.Module) -> str | None:
    """One line that says which scan a Mamba runs; None for a model without one."""
    if uses_torch_scan(model):
        return "Mamba scan: nt_failures' torch scan"
    kinds = {MambaMixer: "Mamba scan", Mamba2Mixer: "Mamba-2 scan"}
    found = [name for kind, name in kinds.items() if any(isinstance(module, kind) for module in model.modules())]
    if not found:
        return None
    return f"{found[0]}: " + ("mamba-ssm kernels" if kernels_installed() else "transformers' own torch scan")
