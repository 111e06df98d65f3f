"""Whether the files of a run are whole: nothing missing, weights as long as they say, JSON that can be read."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from nt_failures.hub.json_files import not_finite, read_object
from nt_failures.hub.run_files import ARGUMENTS_FILE, RESULTS_FILE, RUN_FILE
from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter
from nt_failures.objectives.auxiliary_modules import MODULES_FILE

INDEX = "model.safetensors.index.json"
NEEDED = ("tokenizer.json", "tokenizer_config.json", RUN_FILE)
"""Beside the weights: without one of them nobody can load the run."""
READ = ("config.json", ADAPTER_CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json", INDEX)
"""JSON files that transformers reads when it loads a model; `RUN_FILE` is read and judged by `nt_failures.load`."""


def check_whole(folder: Path) -> None:
    """Raise ValueError unless the folder holds a run with its weights, config, tokenizer and description, all whole."""
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder; give the output folder of a run.")
    needed = [*NEEDED, *_model_files(folder)]
    found = [f"{name} missing" for name in needed if not (folder / name).exists()]
    present = sorted({path.name for path in folder.glob("*.json")} | set(needed) | {MODULES_FILE})
    found += _faults(folder, present)
    if found:
        raise ValueError(
            f"{str(folder)!r} holds no whole run: {', '.join(found)}; finish it with --resume_from_checkpoint "
            "last, or train it again, or give the folder of another run."
        )


def check_readable(folder: Path) -> None:
    """Raise ValueError if a file that loading a model reads is there and damaged."""
    found = _faults(folder, [*READ, *_model_files(folder), MODULES_FILE])
    if found:
        raise ValueError(
            f"{folder}: {', '.join(found)}; copy the file from where it is whole, or save the model again."
        )


def tensors(folder: Path) -> int:
    """How many tensors the folder's weights hold."""
    count = 0
    for name in _weights(folder):
        if (folder / name).exists():
            with safe_open(folder / name, "pt") as file:
                count += len(file.keys())
    return count


def _model_files(folder: Path) -> list[str]:
    return [ADAPTER_CONFIG, ADAPTER_WEIGHTS] if is_adapter(folder) else ["config.json", *_weights(folder)]


def _weights(folder: Path) -> list[str]:
    """Names of the weight files, as their index lists them where there is one."""
    if not (folder / INDEX).exists() or _fault(folder / INDEX):
        return [] if (folder / INDEX).exists() else ["model.safetensors"]
    return sorted(set(read_object(folder / INDEX)["weight_map"].values()))


def _faults(folder: Path, names: list[str]) -> list[str]:
    found = [_fault(folder / name) for name in names if (folder / name).exists()]
    return [fault for fault in found if fault]


def _fault(path: Path) -> str | None:
    """What is wrong with a file, None if nothing is."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt"):  # reads the header and compares it with the file's length
                return None
        except SafetensorError as error:
            return f"{path.name} is cut off or damaged ({error}; {path.stat().st_size:,} bytes)"
    try:
        value = read_object(path)
    except ValueError as error:
        # Another JSON file of the user's may hold anything that is JSON.
        ours = path.name in (*NEEDED, *READ, RESULTS_FILE, ARGUMENTS_FILE)
        return str(error) if ours or "is not JSON" in str(error) else None
    if path.name == INDEX and not isinstance(value.get("weight_map"), dict):
        return f"{path.name} names no weights"
    if path.name == RUN_FILE and "objective" not in value:
        return f"{path.name} names no objective"
    if path.name == RESULTS_FILE:
        # The loss of a training that diverged is NaN and a result; a share, a count or a time never is.
        bad = [where for where in not_finite(value) if "loss" not in where]
        return f"{path.name} has no number at {bad[0]}" if bad else None
    return None
