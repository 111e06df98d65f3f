"""Rows and judge of the path-star tasks: those of nt_failures, which has to be installed."""

import logging
from typing import Any

import datasets

import nt_failures  # teaches load_dataset the name nt_failures/pathstar
from nt_failures.rewards import reward_valid_prefix

logger = logging.getLogger(__name__)

METRICS = ("exact", "decision", "valid_path", "valid_prefix", "complete")


def rows(config: str, **options: Any) -> dict[str, datasets.Dataset]:
    """The test split of a named config, and a hundred training rows for `--num_fewshot`; nothing is downloaded."""
    del options
    return datasets.load_dataset("nt_failures/pathstar", config, num_train=100)
