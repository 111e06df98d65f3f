"""Whether a run's folder is whole and as saved: nothing missing, files that can be read, SHA-256 sums that agree.

The sums stand in nt_failures.json under `sha256`, and that file's own among them. They notice a flipped bit, which no
reader of weights sees, and files that were mixed up; they are no signature: who may write the files may write the sums.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nt_failures.hub.json_files import read_object
from nt_failures.hub.run_files import CHECKED, CONFIG, INDEX, NEEDED, READ, RESULTS_FILE, RUN_FILE, SUMMED, WEIGHTS
from nt_failures.hub.run_results import RunResults
from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter

SUMS = "sha256"
"""The entry of nt_failures.json that holds the sums."""
_DESCRIPTION = "description"
"""The name under which the sum of that file's other entries stands."""


def check_whole(folder: Path) -> None:
    """Raise ValueError unless the folder holds a run with its weights, config, tokenizer and description, all whole."""
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder; give the output folder of a run.")
    model = _model_files(folder)
    missing = [f"{name} missing" for name in (*NEEDED, *model) if not (folder / name).exists()]
    if found := [*missing, *_faults(folder, [*model, *CHECKED])]:
        raise ValueError(
            f"{str(folder)!r} holds no whole run: {', '.join(found)}; finish it with --resume_from_checkpoint "
            "last, or train it again, or give the folder of another run."
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


def with_sums(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The entries of nt_failures.json with the sums of themselves and of the files in the folder."""
    files = sorted({path for pattern in SUMMED for path in folder.glob(pattern)})
    sums = {path.name: _sum_of_file(path) for path in files}
    return {**described, SUMS: {**sums, _DESCRIPTION: _sum_of_entries(described)}}


def check_sums(described: Mapping[str, Any], folder: Path) -> None:
    """ValueError unless the folder is as it was when its nt_failures.json was written; one without sums passes."""
    if SUMS not in described:
        return
    sums = described[SUMS]
    if not isinstance(sums, dict) or _DESCRIPTION not in sums:
        raise ValueError(f"{folder}: {RUN_FILE} is damaged: its {SUMS} are no sums of files; save the model again.")
    entries = {name: value for name, value in described.items() if name != SUMS}
    bad = [RUN_FILE] if sums[_DESCRIPTION] != _sum_of_entries(entries) else []
    for name, wanted in sums.items():
        path = folder / name
        if name == _DESCRIPTION or path.parent != folder:
            continue
        if path.is_file() and _sum_of_file(path) != wanted:
            bad.append(name)
        elif not path.is_file() and path.suffix == ".json":  # whoever loads weights sees that they are missing
            bad.append(f"{name} (missing)")
    if bad:
        raise ValueError(
            f"{folder}: {', '.join(bad)}: not as saved with {RUN_FILE}, so damaged or mixed up with another model's; "
            f"copy the files from where they are whole, or, if you changed them on purpose, remove {SUMS!r} from "
            f"{RUN_FILE}."
        )


def _sum_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _sum_of_entries(entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
