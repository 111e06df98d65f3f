"""The private parts of `datasets` that the builder needs, each with the public thing that is missing."""

import abc
import json
from collections.abc import Iterator

import datasets
from datasets.arrow_reader import make_file_instructions

from nt_failures.data import builder_cache


class ArrowBuilder(datasets.ArrowBasedBuilder, abc.ABC):
    """`datasets.ArrowBasedBuilder` whose files are whole or not read, and which sees each parameter as it was given."""

    @abc.abstractmethod
    def make_config(self, config_name: str | None, parameters: dict[str, object]) -> datasets.BuilderConfig:
        """The config of a name (None for the default) with the given parameters changed."""

    def __init__(self, cache_dir: str | None = None, **options: object) -> None:
        with builder_cache.explained(cache_dir or datasets.config.HF_DATASETS_CACHE):
            try:
                super().__init__(cache_dir, **options)
            except json.JSONDecodeError as error:
                raise ValueError(
                    builder_cache.damaged(self.cache_dir, f"its dataset_info.json is no JSON: {error}")
                ) from error

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
        with builder_cache.explained(self._output_dir):
            super().download_and_prepare(*args, **kwargs)

    def _download_and_prepare(self, *args: object, **kwargs: object) -> None:
        """Missing: a call under the lock, before the first file is written."""
        builder_cache.clear_leftovers(self._output_dir)
        super()._download_and_prepare(*args, **kwargs)

    def _prepare_split_single(self, *args: object, **kwargs: object) -> Iterator[tuple]:
        """Missing: a call in the worker, before it writes, and the error that it met."""
        with builder_cache.in_worker():
            yield from super()._prepare_split_single(*args, **kwargs)

    def _as_dataset(self, split: object = datasets.Split.TRAIN, in_memory: bool = False) -> datasets.Dataset:
        """Missing: the number of rows a split, or a part of one, should have; `as_dataset` gives a dict of them."""
        parts = (self.dataset_name, list(self.info.splits.values()), split)
        expected = make_file_instructions(*parts, prefix_path=self._output_dir).num_examples
        with builder_cache.undamaged(self._output_dir):
            rows = super()._as_dataset(split, in_memory)
        builder_cache.check_rows(rows, expected, self._output_dir)
        return rows
