"""Files and cards as the Hub sees them: ids, LFS or not, folders, and what it refuses in a card's YAML."""

import hashlib
import re

import yaml

LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".arrow", ".png", ".jpg")
LFS_BYTES = 10_000_000


def git_oid(data: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path: str, size: int) -> bool:
    """Whether the Hub would store this file as LFS."""
    return size > 0 and (path.endswith(LFS_SUFFIXES) or size >= LFS_BYTES)


def describe(path: str, data: bytes) -> dict:
    """A file as `tree` and `paths-info` give it."""
    info = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if is_lfs(path, len(data)):
        info["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return info


def tree(files: dict[str, bytes], under: str, recursive: bool) -> list[dict]:
    """The entries of a folder, its files and its folders."""
    start = f"{under}/" if under else ""
    entries = {}
    for path, data in sorted(files.items()):
        if path.startswith(start):
            parts = path[len(start) :].split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                folder = start + "/".join(parts[:depth])
                oid = hashlib.sha1(folder.encode()).hexdigest()
                entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": oid}
            if recursive or len(parts) == 1:
                entries[path] = describe(path, data)
    return list(entries.values())


def key_of(kind: str, id: str) -> str:
    """The name of a repo among all: models have none but their id."""
    return id if kind == "models" else f"{kind}/{id}"


def front_matter(card: str) -> object:
    """What a card's YAML says; {} without any."""
    found = re.match(r"---\n(.*?\n)---\n", card, re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def card_errors(card: str) -> list[str]:
    """Some of what the Hub refuses in a card."""
    try:
        metadata = front_matter(card)
    except yaml.YAMLError as error:
        return [f"bad YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata are no mapping"]
    errors = []
    for size in metadata.get("size_categories", []):
        if not re.fullmatch(r"n<1K|\d+[KMBT]<n<\d+[KMBT]|n>1T", size):
            errors.append(f'"size_categories" has {size!r}')
    for config in metadata.get("configs", []):
        if not config.get("config_name"):
            errors.append('"configs" needs a config_name')
    for model in metadata.get("model-index", []):
        for result in model["results"]:
            if not (result.get("task", {}).get("type") and result.get("metrics")):
                errors.append('"model-index" needs a task type and metrics')
    return errors
