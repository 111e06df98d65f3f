"""`import nt_failures` patches `datasets` here, and only here, so that `load_dataset("nt_failures/pathstar")` works.

`datasets` 5 has neither loading scripts nor plug-ins, so there is no public way. One internal function,
`dataset_module_factory`, turns a name into the module of a builder; the two modules that hold it get a version that
answers our names and hands on every other.
"""

import os
from collections.abc import Callable

from datasets import inspect as datasets_inspect
from datasets import load as datasets_load
from datasets.load import DatasetModule

from nt_failures import registry
from nt_failures.data.builder import PathStarBuilder, TaskBuilder
from nt_failures.data.builders.addition import AdditionBuilder
from nt_failures.data.builders.countdown import CountdownBuilder
from nt_failures.data.builders.hops import HopsBuilder
from nt_failures.data.builders.in_weights_star import InWeightsStarBuilder
from nt_failures.data.builders.siblings import SiblingsBuilder
from nt_failures.data.builders.sort import SortBuilder
from nt_failures.data.builders.tree_star import TreeStarBuilder
from nt_failures.data.builders.unequal_star import UnequalStarBuilder
from nt_failures.tasks.base import Task

BUILDERS: dict[str, type[TaskBuilder]] = {
    builder.REPO_ID: builder
    for builder in (
        PathStarBuilder,
        TreeStarBuilder,
        UnequalStarBuilder,
        AdditionBuilder,
        HopsBuilder,
        SiblingsBuilder,
        SortBuilder,
        InWeightsStarBuilder,
        CountdownBuilder,
    )
}
"""Builders by their names for `load_dataset`. Each is the first concrete one in its module, because `datasets` looks
builders up by module."""
OURS = "nt_failures/"
"""How they all begin: no namespace of the Hub, which would be asked again and again for what is misspelt."""


def builder_class(task_class: type[Task]) -> type[TaskBuilder] | None:
    """The builder of a task's class; None where it has none of its own."""
    return next((builder for builder in BUILDERS.values() if builder.task_class is task_class), None)


def register() -> None:
    """Teach `load_dataset`, `load_dataset_builder` and `get_dataset_config_names` the names in `BUILDERS`.

    A name that does not begin as ours goes to `datasets` unchanged. Calling it again, or after a reload, changes
    nothing.
    """
    for module in (datasets_load, datasets_inspect):
        if module.dataset_module_factory.__module__ != __name__:
            module.dataset_module_factory = _with_builders(module.dataset_module_factory)


def _with_builders(original: Callable[..., DatasetModule]) -> Callable[..., DatasetModule]:
    # Not functools.wraps: it would hide the __module__ by which `register` sees that it is done.
    def dataset_module_factory(path: str, *args: object, **kwargs: object) -> DatasetModule:
        """Answers the names in `BUILDERS`; the function of the same name in `datasets.load` answers the others."""
        if path not in BUILDERS:
            if str(path).startswith(OURS) and not os.path.exists(path):
                near = registry.suggestion(path, BUILDERS, cutoff=0.0)
                raise ValueError(f"no data set {registry.shorten(path)}.{near} Known: {', '.join(BUILDERS)}.")
            return original(path, *args, **kwargs)
        for name in ("revision", "data_dir", "data_files"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{name}={kwargs[name]!r} belongs to files on the Hub or on disk, but {path!r} is drawn by the "
                    f"installed nt_failures; leave {name} out."
                )
        builder = BUILDERS[path]
        names = {"repo_id": path, "dataset_name": path.split("/")[-1]}
        return DatasetModule(builder.__module__, builder.source_hash(), names)

    return dataset_module_factory
