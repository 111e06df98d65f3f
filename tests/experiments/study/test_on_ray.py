"""Which nodes of a cluster are refused; a cluster itself is tests/integrations/test_ray.py."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from nt_failures.experiments.study import on_ray


class TaskError(Exception):
    """What a function raised on a node."""


def cluster(told):
    """In place of Ray: a node of each name, that tells of its package, or fails to."""

    def get(name):
        if isinstance(told[name], Exception):
            raise told[name]
        return told[name]

    nodes = [{"NodeID": n, "NodeManagerAddress": n, "Alive": True, "Resources": {"CPU": 1}} for n in told]
    task = SimpleNamespace(options=lambda scheduling_strategy: SimpleNamespace(remote=lambda: scheduling_strategy))
    strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    return SimpleNamespace(
        exceptions=SimpleNamespace(**LOST, TaskError=TaskError),
        util=SimpleNamespace(scheduling_strategies=strategies),
        nodes=lambda: nodes,
        remote=lambda num_cpus: lambda function: task,
        get=get,
    )


LOST = {name: type(name, (Exception,), {}) for name in on_ray.LOST}


def check(monkeypatch, **told):
    monkeypatch.setattr(on_ray, "_ray", lambda: cluster(told))
    monkeypatch.setattr(on_ray, "_package", lambda: "1, sources a")
    on_ray.OnRay("auto", None, 1, 0)._check_nodes()


def test_a_node_that_has_gone_is_no_node(monkeypatch):
    """Catches: a study refused for a node that was lost meanwhile, or that stops looking at the others."""
    gone = {f"node{i}": error("gone") for i, error in enumerate(LOST.values())}
    check(monkeypatch, **gone, same="1, sources a")
    with pytest.raises(
        ValueError, match=r"^last has another nt_failures \(1, sources b; here 1, sources a\)\. Install"
    ):
        check(monkeypatch, **gone, last="1, sources b")


def test_a_node_that_cannot_tell_is_not_passed_over(monkeypatch):
    """Catches: any failure on a node taken for a lost node, whose runs then come from nobody knows which sources."""
    with pytest.raises(TaskError, match="no permission"):
        check(monkeypatch, one=TaskError("no permission"))


def test_sources_without_metadata_have_a_sum(monkeypatch):
    """Catches: a node with a copy of the sources on its path, which has no version to tell, passed over."""
    installed = on_ray._package()

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert on_ray._package() == f"not installed, sources {installed[-8:]}" != installed
