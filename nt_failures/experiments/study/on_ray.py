"""The engine of many machines: each job is a task of Ray, in a fresh process of a node that has room for it.

Ray runs a job again whose node is lost or whose process is killed. Only the study's own process writes files of the
study; nodes share no disk: each draws the data again, as they are a function of their seed.
"""

import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tqdm.auto import tqdm

from nt_failures.experiments.study import interrupts, worker
from nt_failures.experiments.study.job import Ended, Job

RETRIES = 3
"""Times that Ray runs a job again after its node or its process was lost."""
LOST = ("TaskUnschedulableError", "NodeDiedError", "LocalRayletDiedError", "WorkerCrashedError", "ObjectLostError")
"""Ray's errors of a task whose node has gone meanwhile."""


class OnRay:
    """Runs jobs on a cluster of Ray, or on one that is started for them on this machine.

    Args:
        address: of a running cluster, such as "auto"; None starts one here, which ends with this process.
        at_once: jobs at a time; None: all that the cluster has room for, and as many that wait.
        cpus, gpus: what each job is given; a part of a GPU is allowed.
        keep: as of `worker.train`.
    """

    train = staticmethod(worker.train)

    def __init__(self, address: str | None, at_once: int | None, cpus: float, gpus: float, keep: str | None = None):
        self.address, self.asked, self.keep = address, at_once, keep
        self.needs = {"CPU": cpus, "GPU": gpus}
        self._at_work: dict[Any, Job] = {}
        self._told: deque[Ended] = deque()
        self._avoided: dict[str, str] = {}
        """what is wrong with nodes that came later, by their ids"""
        self._task: Any = None

    def __enter__(self) -> "OnRay":
        _ray()  # that it is missing is said before anything is written
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the cluster, which ends the jobs that still run there."""
        self.stop()

    @property
    def running(self) -> int:
        """Processes at work; further jobs wait for room."""
        return min(len(self._at_work), self._all_room()) if self._at_work else 0

    def run(self, jobs: Iterable[Job]) -> Iterator[Ended]:
        """Give every job to Ray as a task; one is asked for when there is, or soon will be, room for it."""
        ray, waiting = _ray(), iter(jobs)
        first = next(waiting, None)
        if first is None:
            return
        if self._task is None:
            self._connect()
        self._submit(first)
        while self._at_work:
            window = self.asked or 2 * self._all_room()
            while len(self._at_work) < window and (job := next(waiting, None)) is not None:
                self._submit(job)
            for task in ray.wait([*self._at_work], num_returns=1)[0]:
                self._receive(task)
                while self._told:
                    yield self._told[0]
                    self._told.popleft()  # heard, and not before
            if not self._at_work and (job := next(waiting, None)) is not None:
                self._submit(job)  # all nodes are gone: this one waits for the next

    def stop(self) -> list[Ended]:
        """End all jobs; what they have told, and nobody has heard of yet."""
        ray = _ray()
        while self._at_work and (ready := ray.wait([*self._at_work], num_returns=len(self._at_work), timeout=0)[0]):
            for task in ready:
                self._receive(task)
        self._at_work.clear()
        if self._task is not None:
            ray.shutdown()
        self._task, told = None, [*self._told]
        self._told.clear()
        return told

    def _connect(self) -> None:
        """Find or start the cluster, and see that its nodes have what a run needs."""
        ray = _ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we start reports to nobody
        _check_listens(self.address)
        before = signal.getsignal(signal.SIGTERM)
        try:
            context = ray.init(self.address or "local", log_to_driver=False, logging_level="error")
        except ConnectionError as error:
            token = "if `ray start` said that it asks for a token, export RAY_AUTH_MODE=token here, too"
            raise ValueError(f"no cluster of Ray answers at {self.address} ({error}); {token}.") from error
        signal.signal(signal.SIGTERM, before)  # the study's own way to end, which Ray replaces
        if context.dashboard_url:
            sys.stderr.write(f"dashboard: http://{context.dashboard_url}\n")
        if not (self.asked or self._all_room()):
            needs = ", ".join(f"{need:g} {kind}" for kind, need in self.needs.items() if need)
            raise ValueError(f"no node has {needs} for a run; give less, or --jobs where the cluster grows by itself.")
        if not self.needs["GPU"] and (gpus := ray.cluster_resources().get("GPU")):
            sys.stderr.write(f"{gpus:g} GPUs are left idle; --gpus_per_run gives each run one, or a part of one.\n")
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # for nodes that have another package, or none
        options = {"num_cpus": self.needs["CPU"], "num_gpus": self.needs["GPU"], "max_retries": RETRIES}
        self._task = ray.remote(max_calls=1, **options)(_study_run)
        self._check_nodes()

    def _check_nodes(self) -> None:
        """ValueError, before a run is lost there, for nodes that lack the package or have another version of it."""
        ray = _ray()
        strategy, ours = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy, _package()
        look = ray.remote(num_cpus=0)(_package)
        nodes = [node for node in ray.nodes() if self._room(node)]
        found = [look.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote() for node in nodes]
        wrong = []
        for node, told in zip(nodes, found, strict=True):
            with contextlib.suppress(*(getattr(ray.exceptions, name) for name in LOST)):
                if (there := ray.get(told)) != ours:
                    wrong.append(f"{node['NodeManagerAddress']} {_difference(ours, there)}")
        if wrong:
            raise ValueError(f"{'; '.join(wrong)}. Install on every node what is installed here.")

    def _all_room(self) -> int:
        """How many jobs the cluster has room for as it is now: nodes may have come or gone."""
        return sum(map(self._room, _ray().nodes()))

    def _room(self, node: dict[str, Any]) -> int:
        """How many jobs a node has room for."""
        if not node["Alive"] or node["NodeID"] in self._avoided:
            return 0
        return min(int(node["Resources"].get(kind, 0) / need + 1e-9) for kind, need in self.needs.items() if need)

    def _submit(self, job: Job) -> None:
        work = [_ray().put((self.train, job, self.keep))]  # inside a list Ray leaves it to the task when to read it
        options = {"name": f"{job.recipe.stem}, seed {job.seed}"}
        if self._avoided:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._avoided)})"}
        self._at_work[self._task.options(**options).remote(_package(), work)] = job

    def _avoid(self, job: Job, node: str, address: str, there: str) -> None:
        """Run a job elsewhere that came to a node with another package, which gets no more; ValueError if all do."""
        if node not in self._avoided:
            self._avoided[node] = f"{address} {_difference(_package(), there)}"
            tqdm.write(f"{self._avoided[node]}: it is given no run.", file=sys.stderr)
        if not self._all_room():
            wrong = "; ".join(self._avoided.values())
            raise ValueError(f"{wrong}. Install on every node what is installed here.")
        self._submit(job)

    def _receive(self, task: Any) -> None:
        """Take how a job has ended, or that its node has another package."""
        ray = _ray()
        try:
            with interrupts.held():
                told, job = ray.get(task), self._at_work.pop(task)
                if isinstance(told, Ended):
                    self._told.append(told)
                    return
            self._avoid(job, *told)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            self._told.append(
                Ended(self._at_work.pop(task), failed=" ".join(f"{type(cause).__name__}: {cause}".split())[:1000])
            )


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install 'nt_failures[ray]'") from error
    return ray


def _check_listens(address: str | None) -> None:
    """ValueError where nobody listens at a host and port: Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "://" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            way = "give the address that `ray start --head` printed, or auto"
            raise ValueError(f"no cluster of Ray listens at {address} ({error}); {way}.") from error


def _package() -> str:
    """Version of the package on this node and a sum of its sources, found without importing it; "" for none."""
    import hashlib
    import importlib.metadata
    import importlib.util
    import pathlib

    found = importlib.util.find_spec("nt_failures")
    if found is None or found.origin is None:
        return ""
    folder, total = pathlib.Path(found.origin).parent, hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    try:
        version = importlib.metadata.version("nt_failures")
    except importlib.metadata.PackageNotFoundError:  # sources on PYTHONPATH
        version = "not installed"
    return f"{version}, sources {total.hexdigest()[:8]}"


def _difference(ours: str, there: str) -> str:
    return f"has another nt_failures ({there}; here {ours})" if there else "has no nt_failures"


def _study_run(ours: str, work: Sequence[Any]) -> Any:
    """On a node, in a fresh process: what `worker.train` returns, if the package is the same; else what it is there."""
    import ray

    there = _package()
    if there != ours:
        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), there
    train, job, keep = ray.get(work[0])
    return train(job, None, keep)
