"""Single files of a folder, or of a repository on the Hub."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Private: what `try_to_load_from_cache` returns where the cache knows that a repository has no file of a name.
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

OPTIONS = ("token", "cache_dir", "local_files_only", "force_download")
"""Options of `from_pretrained` that say how anything is fetched from the Hub."""
MARK = ".gitattributes"
"""Every repository has it, and none but who downloads all of a repository asks for it."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder, or a repository at a revision with the options it is fetched by; options for others are left out."""

    name: str
    revision: str | None = None
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Those of `OPTIONS` that are given."""
        return {name: value for name, value in self.given.items() if name in OPTIONS}

    def file(self, name: str) -> Path | None:
        """A file of the folder, or from the cache or the Hub; None where there is none of that name.

        Raises:
            OSError: nobody knows whether there is one: the Hub is out of reach, and the cache has not been told.
        """
        if Path(self.name).is_dir():
            return path if (path := Path(self.name) / name).exists() else None
        try:
            return Path(hf_hub_download(self.name, name, revision=self.revision, **self.options))
        except LocalEntryNotFoundError as error:
            where = {"cache_dir": self.options.get("cache_dir"), "revision": self.revision}
            whole = isinstance(try_to_load_from_cache(self.name, MARK, **where), str)
            if whole or try_to_load_from_cache(self.name, name, **where) is _CACHED_NO_EXIST:
                return None
            raise OSError(
                f"{self.name}: whether it holds {name} cannot be told, as the Hub is out of reach; download all of it "
                f"while it is in reach: hf download {self.name}"
            ) from error
        except EntryNotFoundError:
            return None
