"""Where the runs of a study take place: the one seam between a study and the machines."""

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import torch

from nt_failures.experiments.study import storage
from nt_failures.experiments.study.job import Ended, Job
from nt_failures.experiments.study.local import Local
from nt_failures.experiments.study.on_ray import OnRay


class Engine(Protocol):
    """Runs jobs, each in a fresh process. A context: nothing that it started outlives it."""

    running: int
    """Processes at work."""

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, jobs: Iterable[Job]) -> Iterator[Ended]:
        """Yield every job as it ends; it counts as heard of when the next one is asked for.

        A job is asked for only when it can be started.
        """
        ...

    def stop(self) -> list[Ended]:
        """End all that runs, at once; the jobs that had ended before, and were not heard of yet."""
        ...


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `of`."""
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this machine, or Ray (%(default)s)"
    )
    jobs = "runs at a time (local: the cores, one thread each, or 1 on a GPU; ray: all that have room)"
    parser.add_argument("--jobs", type=int, help=jobs)
    parser.add_argument("--address", help="ray: a running cluster, such as auto; by default one is started here")
    parser.add_argument("--cpus_per_run", type=float, help="ray: CPUs of a run (1)")
    parser.add_argument("--gpus_per_run", type=float, help="ray: GPUs of a run, such as 0.125 (0)")
    keep = "keep the folder, which holds the model, of each run that is made; finished ones are not made again"
    parser.add_argument("--keep_models", action="store_true", help=keep)
    parser.add_argument(
        "--storage_path", help="where, a folder or a path of fsspec such as s3://; default: the study's"
    )


def check_flags(args: argparse.Namespace) -> None:
    """ValueError for flags of `add_flags` that do not fit each other."""
    if args.engine == "local":
        for name in ("address", "cpus_per_run", "gpus_per_run"):
            if vars(args)[name] is not None:
                raise ValueError(f"--{name} would change nothing on this machine; add --engine ray, or leave it out.")
    for name in ("cpus_per_run", "gpus_per_run"):
        if (vars(args)[name] or 0) < 0:
            raise ValueError(f"--{name} must be at least 0.")
    if not (args.cpus_per_run is None or args.cpus_per_run or args.gpus_per_run):
        raise ValueError("a run needs something of a node; give --cpus_per_run or --gpus_per_run above 0.")
    if args.storage_path is not None and not args.keep_models:
        raise ValueError("--storage_path would change nothing, as no model is kept; add --keep_models.")
    if args.keep_models and args.address and args.storage_path is None:
        raise ValueError("--keep_models on a cluster needs --storage_path, which all of its nodes can write to.")


def of(args: argparse.Namespace, folder: Path) -> Engine:
    """The engine that was asked for, for the study in `folder`."""
    keep = storage.located(args.storage_path or str(folder / "models")) if args.keep_models else None
    if args.engine == "ray":
        cpus = 1.0 if args.cpus_per_run is None else args.cpus_per_run
        return OnRay(args.address, args.jobs, cpus, args.gpus_per_run or 0.0, keep)
    gpu = torch.cuda.is_available()
    cores = 1 if gpu else os.cpu_count() or 1
    return Local(args.jobs or cores, None if gpu else 1, folder / "under_way", keep)
