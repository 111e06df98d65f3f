"""Whether every objective has the same loss and gradients on a GPU as on the CPU: the first thing to ask of one.

    python examples/benchmarks/cuda_check.py                  # writes cuda_check.md and cuda_check.json

In float32 with eager attention and sdpa, in bfloat16, and compiled. It downloads nothing. Mamba's kernels are compared
with torch where mamba-ssm and causal-conv1d are installed. The exit code is 1 where something differs.
"""

import contextlib
import importlib
import inspect
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import set_seed
from transformers.models.mamba import modeling_mamba

import nt_failures as ntf
from nt_failures.experiments import command_line
from nt_failures.experiments.study.summary import markdown_table
from nt_failures.hub import environment
from nt_failures.models import mamba_scan
from nt_failures.objectives import OBJECTIVES, find_objective

TASK = ntf.PathStar(degree=(2, 3), path_length=(3, 5), num_nodes=50)
"""Of many sizes, so that rows are padded: a kernel that ignores the mask must be found."""
ROWS = 32
FORMS = {
    "eager": {"attention": "eager"},
    "sdpa": {},
    "bf16": {"bf16": True},
    "compiled": {"compiled": True},
}
ALLOWED = {"bf16": 0.02}
"""How far loss and gradient may be off, as a share of them; 1e-4 in float32."""
KERNELS = (
    "mamba_inner_fn",
    "mamba_selective_scan",
    "mamba_selective_state_update",
    "causal_conv1d_fn",
    "causal_conv1d_update",
)
"""Functions of transformers' Mamba that are kernels where the packages are installed, and torch where they are not."""


def main(argv: Sequence[str]) -> None:
    """Compare, and write both files after each objective."""
    parser = command_line.plain_parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("cuda_check"), help="name of both files")
    parser.add_argument(
        "--jobs", type=int, default=1, help="objectives at a time: compiling takes a core (%(default)s)"
    )
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("cuda_check: torch finds no CUDA device on this machine, so nothing was checked.")
    datasets.disable_progress_bars()
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "versions": environment.versions()}
    found["kernels"] = kernels_against_torch("mamba-2x64", "cuda") if has_kernels() else None
    found["objectives"] = {}
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        for name, forms in zip(OBJECTIVES, pool.map(of_objective, OBJECTIVES), strict=True):
            found["objectives"][name] = forms
            args.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            args.output.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))
    differ = [name for name, forms in found["objectives"].items() if any(map(is_wrong, forms, forms.values()))]
    if found["kernels"] and are_wrong(found["kernels"]):
        differ.append("Mamba's kernels")
    if differ:
        sys.exit(f"cuda_check: {', '.join(differ)} differ from the CPU, or torch, by more than rounding.")


def rows() -> list[dict[str, Any]]:
    """Tokenised training rows, always the same."""
    columns = {name: column[:ROWS] for name, column in TASK.block(seed=0, split="train", index=0).items()}
    text = {name: column.to_list() for name, column in TASK.texts(columns).items()}
    return ntf.tokenize(datasets.Dataset.from_dict(text), ntf.word_level_tokenizer(TASK)).to_list()


def build(name: str, objective: str, attention: str | None = None) -> tuple[torch.nn.Module, ntf.Objective]:
    """A new model of that size with the objective's modules, always the same, and the objective."""
    tokenizer, kind = ntf.word_level_tokenizer(TASK), find_objective(objective)
    ntf.add_tokens(tokenizer, kind.extra_tokens)
    made = kind.from_tokenizer(tokenizer)
    set_seed(0)
    options = {} if attention is None else {"attn_implementation": attention}
    model = ntf.load_model(name, tokenizer, max_length=64, **options)
    made.attach(model)
    return model.eval(), made  # without dropout, which the devices draw differently


def of_objective(
    name: str, device: str = "cuda", size: str = "gpt2-2x64", forms: Mapping[str, Mapping] = FORMS
) -> dict:
    """By form: how far `loss` and `gradients` of one batch on the device are from those of the CPU, relative to these.

    Of a form that fails, both are NaN, with its `error`.
    """

    def step(where: str, attention: str = "sdpa", bf16: bool = False, compiled: bool = False) -> tuple[float, dict]:
        model, objective = build(size, name, attention)
        model.to(where)
        batch = {key: value.to(where) for key, value in objective.collate(rows()).items()}
        if compiled:
            model.compile()
        with torch.autocast(where, torch.bfloat16, enabled=bf16):
            return loss_and_gradients(model, objective, batch)

    right, gradients = step("cpu", attention="eager")
    length = norm(gradients.values())
    found = {}
    for form, options in forms.items():
        try:
            loss, other = step(device, **options)
            far = norm(other[key].cpu() - g for key, g in gradients.items()) / length
            found[form] = {"loss": abs(loss - right) / right, "gradients": far}
        except Exception as error:  # whatever it is, the other forms and objectives are still to be compared
            found[form] = {"loss": math.nan, "gradients": math.nan, "error": f"{type(error).__name__}: {error}"}
        torch._dynamo.reset()
    return found


def loss_and_gradients(
    model: torch.nn.Module, objective: ntf.Objective, batch: Mapping[str, torch.Tensor]
) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss in nats per label, and the gradient of each parameter that has one."""
    model.zero_grad()
    loss = objective.loss(model, batch)
    mean = loss.sum / loss.count
    mean.backward()
    return float(mean.detach()), {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


def norm(tensors: Iterable[torch.Tensor]) -> float:
    """Length of all together."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def is_wrong(form: str, found: Mapping[str, Any]) -> bool:
    """Whether a difference is more than rounding; NaN is."""
    return not all(found[name] <= ALLOWED.get(form, 1e-4) for name in ("loss", "gradients"))


def are_wrong(kernels: Mapping[str, float]) -> bool:
    """Whether Mamba's kernels differ from torch by more than rounding; NaN does."""
    far = abs(kernels["kernel_loss"] - kernels["torch_loss"]) / kernels["torch_loss"]
    return not (far <= 1e-4 and kernels["gradients"] <= 1e-3)


def has_kernels() -> bool:
    """Whether Mamba's kernels run. Where one is there and does not load, transformers takes torch and says nothing.

    Raises:
        ImportError: of a package that is there and does not load.
    """
    if not mamba_scan.kernels_installed():
        return False
    for package in ("mamba_ssm", "causal_conv1d"):
        importlib.import_module(package)
    return True


@contextlib.contextmanager
def torch_path() -> Iterator[None]:
    """Within, transformers' Mamba takes the path of torch alone, whatever is installed."""
    chosen = {name: vars(modeling_mamba)[name] for name in KERNELS}
    for name, function in chosen.items():
        setattr(modeling_mamba, name, inspect.unwrap(function))
    try:
        yield
    finally:
        for name, function in chosen.items():
            setattr(modeling_mamba, name, function)


def kernels_against_torch(name: str, device: str) -> dict[str, float]:
    """Loss by both paths of a Mamba in float32, and the largest relative difference of a parameter's gradient."""
    model, objective = build(name, "next_token")
    mamba_scan.use_scan(model, "transformers")  # whatever transformers runs: kernels where they are
    model.to(device).train()
    batch = {key: value.to(device) for key, value in objective.collate(rows()).items()}
    kernel_loss, by_kernel = loss_and_gradients(model, objective, batch)
    with torch_path():
        torch_loss, by_torch = loss_and_gradients(model, objective, batch)
    worst = max(float((by_kernel[key] - g).norm() / g.norm().clamp(min=1e-12)) for key, g in by_torch.items())
    return {"kernel_loss": kernel_loss, "torch_loss": torch_loss, "gradients": worst}


def markdown(found: Mapping[str, Any]) -> str:
    """The findings as a page."""
    lines = [f"# {found['device']}, {environment.in_words(found['versions'])}", ""]
    lines += ["Loss / gradient of each objective against float32 on the CPU, relative; **more than rounding**.", ""]
    table = [("objective", *FORMS)]
    for name, forms in found["objectives"].items():
        cells = {form: f"{each['loss']:.0e} / {each['gradients']:.0e}" for form, each in forms.items()}
        table.append((name, *(f"**{cell}**" if is_wrong(form, forms[form]) else cell for form, cell in cells.items())))
    lines += [markdown_table(table), ""]
    if found["kernels"] is None:
        lines += ["Mamba: mamba-ssm and causal-conv1d are not installed; the torch path ran.", ""]
    else:
        text = "Mamba, kernels against torch: loss {kernel_loss:.6f} and {torch_loss:.6f}, "
        lines += [(text + "gradients differ by {gradients:.1e}.").format(**found["kernels"]), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
