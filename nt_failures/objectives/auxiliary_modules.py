"""Modules that an objective adds to a model: adding them, reaching them from a loss, saving and loading them.

They are saved in a file of their own, so that the files beside it are a stock checkpoint; layers that transformers
drafts with (drafting.py) are saved in that checkpoint, where it looks for them.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from nt_failures.models import lora, mamba_scan

NAME = "objective_modules"
"""The attribute of a model under which its objective's modules live."""

DRAFT_NAME = "mtp"
"""The attribute under which they live where transformers drafts with them: their names in the checkpoint begin so."""

MODULES_FILE = "objective_modules.safetensors"

OWNER = "own_objective"
"""The attribute of a model that `load` gave, or a Trainer prepared: the objective whose modules it has."""


def attach(model: PreTrainedModel, under: str = NAME, **modules: torch.nn.Module) -> None:
    """Put the modules into the model, initialised as its own are; ValueError if it has some already."""
    if has_modules(model):
        kind = type(model).__name__
        raise ValueError(
            f"this {kind} has the modules of an objective in it already; give the objective that they are of, "
            "or load the stock model alone, by load_model."
        )
    added = torch.nn.ModuleDict(modules)
    with torch.no_grad():  # transformers has no public way to initialise a part of a model as its own layers are
        added.apply(model._init_weights)
    model.add_module(under, added.to(device=model.device, dtype=model.dtype))


def modules_of(model: torch.nn.Module) -> torch.nn.ModuleDict:
    """The modules that an objective put into the model, however it is wrapped."""
    (name,) = _names(model)
    return unwrap_model(model).get_submodule(name)


def has_modules(model: torch.nn.Module) -> bool:
    """Whether an objective put modules into the model."""
    return bool(_names(model))


def in_own_file(model: torch.nn.Module) -> bool:
    """Whether an objective's modules are saved in a file of their own: beside an adapter, those that draft are, too."""
    return _names(model) == {NAME} or (has_modules(model) and lora.has_adapter(unwrap_model(model)))


def _names(model: torch.nn.Module) -> set[str]:
    return {NAME, DRAFT_NAME} & {name for name, _ in unwrap_model(model).named_children()}


def check_trained(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """ValueError for an optimizer that leaves out an objective's modules."""
    given = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    own = modules_of(model).parameters() if has_modules(model) else ()
    if any(parameter.requires_grad and id(parameter) not in given for parameter in own):
        raise ValueError(
            "optimizers=... leaves out the objective's modules, which the Trainer adds to the model; give "
            "optimizer_cls_and_kwargs=(class, arguments), or build the optimizer of a trainer's own model: "
            "trainer.model.parameters()."
        )


def stock_parameters(model: PreTrainedModel) -> int:
    """How many parameters the model has without an objective's modules, so as stock transformers loads it."""
    own = {NAME, DRAFT_NAME}
    return sum(tensor.numel() for name, tensor in model.named_parameters() if name.partition(".")[0] not in own)


def unwrap_model(model: torch.nn.Module) -> PreTrainedModel:
    """The model itself, without the wrappers of data parallelism and torch.compile."""
    if isinstance(model, PreTrainedModel):  # below, accelerate looks for installed packages at each call
        return model
    return extract_model_from_parallel(model, keep_torch_compile=False)


def inside_forward(
    model: torch.nn.Module, function: Callable[[PreTrainedModel, Mapping[str, Tensor]], Any], batch: Mapping
) -> Any:
    """`function(unwrapped model, batch)`, run as the forward pass of the wrapped model.

    Data parallelism takes a parameter's gradient for complete once its part of the forward pass is done, so a loss must
    use the objective's modules inside of it.
    """
    inner = unwrap_model(model)
    original = inner.forward

    def forward(**kwargs: Any) -> Any:
        with forward_as(inner, original):
            return function(inner, kwargs)

    with forward_as(inner, forward):
        return model(**batch)


@contextlib.contextmanager
def forward_as(model: torch.nn.Module, forward: Callable) -> Iterator[None]:
    """While it lasts, `forward` is the model's forward pass."""
    own = vars(model).get("forward")  # accelerate keeps its autocast here
    model.forward = forward
    try:
        yield
    finally:
        del model.forward
        if own is not None:
            model.forward = own


def attention_heads(width: int, most: int) -> int:
    """The largest number of heads up to `most` that divides the width."""
    return max(heads for heads in range(1, most + 1) if width % heads == 0)


def encoder_like(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A new trunk of the model's kind, with this many layers and the model's scan. It takes `inputs_embeds` only."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    trunk = AutoModel.from_config(config)
    trunk.set_input_embeddings(torch.nn.Identity())
    if mamba_scan.uses_torch_scan(model):
        mamba_scan.use_scan(trunk, "torch")
    return trunk


def save(state: Mapping[str, Tensor], folder: Path, adapter: bool = False) -> dict[str, Tensor]:
    """Write the objective's part of a model's state into the folder; returns the rest, which is the stock model's.

    `adapter`: only an adapter will be saved of the rest, so layers that draft are written here, too.
    """
    own = {NAME, DRAFT_NAME} if adapter else {NAME}
    rest = {name: tensor for name, tensor in state.items() if name.partition(".")[0] not in own}
    modules = {name.partition(".")[2]: state[name].detach().cpu().contiguous() for name in state if name not in rest}
    if modules:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(modules, folder / MODULES_FILE, metadata={"format": "pt"})
    return rest


def load(model: torch.nn.Module, file: Path, only: str | None = None) -> None:
    """Load saved modules into a model that has them attached, or `only` the one of that name.

    ValueError if they do not fit or are missing.
    """
    if not file.exists():
        raise ValueError(f"{file} is missing: the weights of the objective's modules were not saved with this model.")
    try:
        state, modules = load_file(file), modules_of(model)
        if only is not None:
            start, modules = f"{only}.", modules[only]
            state = {name.removeprefix(start): state[name] for name in state if name.startswith(start)}
        modules.load_state_dict(state)
    except RuntimeError as error:
        of_another = "of another objective, or of a model of another kind or size"
        raise ValueError(f"{file} does not fit, as it is {of_another}: {' '.join(str(error).split())[:300]}") from error
