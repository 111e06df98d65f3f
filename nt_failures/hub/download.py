"""Single files of a folder or of a repository on the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Private: whether the cache knows that a repository has no file of a name; `try_to_load_from_cache` returns this mark.
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

OPTIONS = ("token", "cache_dir", "local_files_only", "force_download")
"""Options of `from_pretrained` that say how anything is fetched from the Hub."""
MARK = ".gitattributes"
"""Every repository has it, and none but who downloads all of a repository asks for it."""


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `OPTIONS` that are given."""
    return {name: given[name] for name in OPTIONS if name in given}


def file_of(name_or_path: str, name: str, revision: str | None = None, **options: Any) -> Path | None:
    """A file of a folder, or of a repository from the cache or the Hub; None where there is none of that name.

    Raises:
        OSError: nobody knows whether it has one: the Hub is out of reach, and the cache has not been told.
    """
    if Path(name_or_path).is_dir():
        path = Path(name_or_path) / name
        return path if path.exists() else None
    try:
        return Path(hf_hub_download(name_or_path, name, revision=revision, **options))
    except LocalEntryNotFoundError as error:
        where = {"cache_dir": options.get("cache_dir"), "revision": revision}
        whole = isinstance(try_to_load_from_cache(name_or_path, MARK, **where), str)
        if whole or try_to_load_from_cache(name_or_path, name, **where) is _CACHED_NO_EXIST:
            return None
        raise OSError(
            f"{name_or_path}: whether it holds {name} cannot be told, as the Hub is out of reach; download all of it while "
            f"it is in reach: hf download {name_or_path}"
        ) from error
    except EntryNotFoundError:
        return None
