"""Whether a run's folder is whole: nothing missing, and files that can be read."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from nt_failures.hub.json_files import read_object
from nt_failures.hub.run_files import CHECKED, CONFIG, INDEX, NEEDED, READ, RESULTS_FILE, RUN_FILE, WEIGHTS
from nt_failures.hub.run_results import RunResults
from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter


def check_whole(folder: Path) -> None:
    """Raise ValueError unless the folder holds a run with its weights, config, tokenizer and description, all whole."""
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder; give the output folder of a run.")
    model = _model_files(folder)
    missing = [f"{name} missing" for name in (*NEEDED, *model) if not (folder / name).exists()]
    if found := [*missing, *_faults(folder, [*model, *CHECKED])]:
        raise ValueError(
            f"{str(folder)!r} holds no whole run: {', '.join(found)}; finish it with --resume, or train "
            "it again, or give the folder of another run."
        )


def check_readable(folder: Path) -> None:
    """Raise ValueError if a file that loading a model reads is there and damaged."""
    if found := _faults(folder, [*READ, *_model_files(folder)]):
        raise ValueError(
            f"{folder}: {', '.join(found)}; copy the file from where it is whole, or save the model again."
        )


def count_tensors(folder: Path) -> int:
    """How many tensors the folder's weights hold."""
    return sum(len(safe_open(folder / name, "pt").keys()) for name in _weights(folder) if (folder / name).exists())


def _model_files(folder: Path) -> list[str]:
    return [ADAPTER_CONFIG, ADAPTER_WEIGHTS] if is_adapter(folder) else [CONFIG, *_weights(folder)]


def _weights(folder: Path) -> list[str]:
    """Names of the weight files, as their index lists them where there is one."""
    if not (folder / INDEX).exists():
        return [WEIGHTS]
    return [] if _fault(folder / INDEX) else sorted(set(read_object(folder / INDEX)["weight_map"].values()))


def _faults(folder: Path, names: list[str]) -> list[str]:
    found = [_fault(folder / name) for name in dict.fromkeys(names) if (folder / name).exists()]
    return [fault for fault in found if fault]


def _fault(path: Path) -> str | None:
    """What is wrong with a file, None if nothing is."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):  # reads the header and compares it with the file's length
                return None
        values = read_object(path)
        if path.name == RESULTS_FILE:
            RunResults.from_json(values)
    except SafetensorError as error:
        return f"{path.name} is cut off or damaged ({error}; {path.stat().st_size:,} bytes)"
    except ValueError as error:
        return str(error)
    if path.name == INDEX and not isinstance(values.get("weight_map"), dict):
        return f"{path.name} names no weights"
    return f"{path.name} names no objective" if path.name == RUN_FILE and "objective" not in values else None
