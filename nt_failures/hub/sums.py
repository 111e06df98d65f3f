"""SHA-256 sums that tie a run's description to the files beside it: a flipped bit of a weight is seen by no reader.

They stand in the description itself, under `sha256`, and that one's own sum among them. They notice damage, and files that
were mixed up; they are no signature: who may write the files may write the sums.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIELD = "sha256"
DESCRIPTION = "description"
"""The name under which the description's own sum stands, the sums left out."""

_SUMMED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "*.safetensors")
_SUMMED += ("model.safetensors.index.json", "adapter_config.json")
"""What decides which model is loaded, and what it answers."""


def sealed(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The description with the sums of itself and of the files in the folder."""
    files = sorted({path for pattern in _SUMMED for path in folder.glob(pattern)})
    sums = {path.name: _of_file(path) for path in files}
    return {**described, FIELD: {**sums, DESCRIPTION: _of_values(described)}}


def check(described: Mapping[str, Any], folder: Path, name: str) -> None:
    """ValueError unless the folder holds what was there when the description was sealed; one without sums passes.

    Args:
        described: the content of the file `name` in the folder.
    """
    if FIELD not in described:
        return
    sums = described[FIELD]
    if not isinstance(sums, dict) or DESCRIPTION not in sums:
        raise ValueError(f"{folder}: {name} is damaged: its {FIELD} are no sums of files; save the model again.")
    rest = {key: value for key, value in described.items() if key != FIELD}
    bad = [name] if sums[DESCRIPTION] != _of_values(rest) else []
    for file, wanted in sums.items():
        path = folder / file
        if file == DESCRIPTION or path.parent != folder:
            continue
        if path.is_file() and _of_file(path) != wanted:
            bad.append(file)
        elif not path.is_file() and path.suffix == ".json":  # whoever loads weights sees that they are missing
            bad.append(f"{file} (missing)")
    if bad:
        raise ValueError(
            f"{folder}: {', '.join(bad)}: not as saved with {name}, so damaged or mixed up with another model's; copy the "
            f"files from where they are whole, or, if you changed them on purpose, remove {FIELD!r} from {name}."
        )


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _of_values(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
