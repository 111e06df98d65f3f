"""`datasets.ArrowBasedBuilder` with files that are whole or not read, and errors that say what to do.

`datasets` writes into a folder `*.incomplete` under a lock and renames it at the end. Added here: workers end with a
killed call, what such a call left behind is removed, files cut short afterwards are refused, messages name the disk.
Only private methods of `datasets` allow that; each says which public API would replace it.
"""

import abc
import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
import multiprocess
import pyarrow as pa
from datasets.arrow_reader import make_file_instructions
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher
from datasets.utils._dill import Pickler

from nt_failures.data import child_processes


def stable_hash(value: object) -> str:
    """As `Hasher.hash`, but the same in each process also where code holds a set of texts, as `x in {"a", "b"}` does.

    So do the methods which Python 3.13 gives a frozen dataclass. Missing: https://github.com/huggingface/datasets/pull/8284
    """
    file = io.BytesIO()
    _SortedFrozensets(file, recurse=True).dump(value)
    return Hasher.hash_bytes(file.getvalue())


class _SortedFrozensets(Pickler):
    def reducer_override(self, value: object) -> object:
        return (frozenset, (sorted(value, key=Hasher.hash),)) if type(value) is frozenset else NotImplemented


class WriteError(Exception):
    """An OSError of a worker. `datasets` would report the OSError itself as a missing data file."""


class ArrowBuilder(datasets.ArrowBasedBuilder, abc.ABC):
    """A builder whose files are whole or not read, and which sees each parameter as it was given."""

    @abc.abstractmethod
    def make_config(self, config_name: str | None, parameters: dict[str, object]) -> datasets.BuilderConfig:
        """The config of a name (None for the default) with the given parameters changed."""

    def __init__(self, cache_dir: str | None = None, **options: object) -> None:
        with _explained(cache_dir or datasets.config.HF_DATASETS_CACHE):
            try:
                super().__init__(cache_dir, **options)
            except json.JSONDecodeError as error:
                raise ValueError(_damaged(self.cache_dir, f"its dataset_info.json is no JSON: {error}")) from error

    def _create_builder_config(
        self,
        config_name: str | None = None,
        custom_features: datasets.Features | None = None,
        config_id: str | None = None,
        **parameters: object,
    ) -> tuple[datasets.BuilderConfig, str]:
        """Missing: a way to see parameters that are None, and to name the alternatives of an unknown one."""
        if custom_features is not None:
            raise ValueError(f"features= is not a parameter of {self.repo_id}; build it, then call `cast(features)`.")
        config = self.make_config(config_name, parameters)
        return config, config_id or config.create_config_id({})

    def download_and_prepare(self, *args: object, **kwargs: object) -> None:
        with _explained(self._output_dir):
            super().download_and_prepare(*args, **kwargs)

    def _download_and_prepare(self, *args: object, **kwargs: object) -> None:
        """Missing: a call under the lock, before the first file is written. A killed call may have left files there."""
        folder = Path(self._output_dir)
        if folder.suffix == ".incomplete":  # any other folder is the user's
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        super()._download_and_prepare(*args, **kwargs)

    def _prepare_split_single(self, *args: object, **kwargs: object) -> Iterator[tuple]:
        """Missing: a call in the worker, before it writes, and the error that it met."""
        caller = multiprocess.parent_process()
        if caller is not None:  # the worker of a killed call would write on into the files of the next call
            child_processes.end_with(caller, forked=multiprocess.get_start_method() == "fork")
        try:
            yield from super()._prepare_split_single(*args, **kwargs)
        except (OSError, DatasetGenerationError) as error:
            cause = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            if cause is None:
                raise
            raise WriteError(str(cause)) from error

    def _as_dataset(self, split: object = datasets.Split.TRAIN, in_memory: bool = False) -> datasets.Dataset:
        """Missing: the number of rows a split, or a part of one, should have; `as_dataset` gives a dict of them."""
        folder = self._output_dir
        parts = (self.dataset_name, list(self.info.splits.values()), split)
        expected = make_file_instructions(*parts, prefix_path=folder).num_examples
        try:
            rows = super()._as_dataset(split, in_memory)
        except (OSError, pa.ArrowInvalid) as error:  # cut short, missing, or no Arrow file
            raise ValueError(_damaged(folder, f"{type(error).__name__}: {error}")) from error
        if len(rows) != expected:  # a file that ends early may read as a shorter one
            raise ValueError(_damaged(folder, f"{len(rows):,} of {expected:,} rows are there"))
        return rows


@contextlib.contextmanager
def _explained(folder: str) -> Iterator[None]:
    """Around a call that writes below a folder: an OSError that says where, why, and what to do."""
    try:
        yield
    except (OSError, WriteError) as error:
        raise OSError(
            f"the data set cannot be written below {folder}: {error}; nothing half-written is kept or read. Make room "
            "or make that folder writable and call again, or give another cache_dir=... (or set HF_DATASETS_CACHE)."
        ) from error


def _damaged(folder: str, reason: str) -> str:
    return f"the data set in {folder} is damaged ({reason}); remove that folder, and the next call draws it anew."
