"""Studies on Ray: what an engine promises (study_promises.py), and a cluster of two nodes that loses one."""

import os
import select
import shutil
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from small_studies import ROOT, Study
from stand_in import until
from study_promises import *  # noqa: F403 - the tests, and their fixture
from study_promises import EVERY, finish, kill

HERE = "127.0.0.2"  # of the loopback: Ray takes 127.0.0.1 for the machine's address to others


@pytest.fixture(scope="module")
def on(cluster):
    """The flags of this engine."""
    return ["--engine", "ray", "--address", cluster.address]


@pytest.fixture(scope="module", autouse=True)
def paths():
    """What the nodes' processes import: the package, and the training of a few lines."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # a cluster of one machine listens on its loopback only
        yield


@pytest.fixture(scope="module")
def cluster(paths):
    """Two nodes of one CPU each on this machine; a test that takes one gives another back."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": HERE})
    made.add_node(num_cpus=1, node_ip_address=HERE)
    yield made
    made.shutdown()


def test_a_node_that_is_lost_loses_no_run(small, on, cluster):
    """Two runs, one on each node, when one node is taken away.

    Catches: a study that ends with the node, waits for it for ever, or has a line twice or not at all.
    """
    small.recipe("a", gate=small.gate, gate_of_seed=0)
    small.recipe("b", exact=0.99, gate=small.gate, gate_of_seed=0)
    process = small.start(*on, "--jobs", "2")
    until(lambda: small.calls == [("a", 0), ("b", 0)], process)
    trainings = [os.pidfd_open(small.pid(recipe, 0)) for recipe in ("a", "b")]
    (node,) = cluster.worker_nodes
    cluster.remove_node(node, allow_graceful=False)
    assert len(select.select(trainings, [], [], 120)[0]) == 1
    small.gate.touch()
    errors, code = finish(process)[1:]
    cluster.add_node(num_cpus=1, node_ip_address=HERE)
    assert code == 0, errors
    assert sorted(small.results) == EVERY
    assert len((small.out / "results.jsonl").read_text().splitlines()) == 4
    assert len(small.calls) == 5  # the one that was on the node, and again


def test_a_run_whose_process_is_killed_once_is_run_again(small, on):
    """Catches: a run of hours lost to the memory killer, or counted twice."""
    small.recipe("a", kill=small.gate, kill_seed=1)
    errors, code = finish(small.start(*on))[1:]
    assert code == 0, errors
    assert sorted(small.results) == EVERY
    assert small.calls.count(("a", 1)) == 2


def test_a_cluster_of_its_own_ends_with_a_killed_study(small):
    """Without --address. Catches: servers and trainings that are left on the machine."""
    small.recipe("a", gate=small.gate, gate_of_seed=0)
    process = small.start("--engine", "ray")
    until(lambda: small.calls, process)
    family = descendants(process.pid)
    assert len(family) > 3
    kill(process)
    assert all(ends(pid) for pid in family)  # noqa: F405


def descendants(pid):
    """All processes below one."""
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


@pytest.fixture
def another(tmp_path):
    """A PYTHONPATH on which other sources of the package come first."""
    shutil.copytree(ROOT / "nt_failures", tmp_path / "other" / "nt_failures")
    with open(tmp_path / "other" / "nt_failures" / "__init__.py", "a") as file:
        file.write("# another\n")
    return f"{tmp_path / 'other'}{os.pathsep}{os.environ['PYTHONPATH']}"


def test_a_node_with_another_package_is_named_before_a_run_is_lost(tmp_path, monkeypatch, paths, another):
    """Catches: runs of an older version among the others; a trace of a failed import for each run."""
    small = Study(tmp_path, monkeypatch)
    small.recipe("a")
    before = os.environ["PYTHONPATH"]
    monkeypatch.setenv("PYTHONPATH", another)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": HERE})
    monkeypatch.setenv("PYTHONPATH", before)
    try:
        errors, code = finish(small.start("--engine", "ray", "--address", made.address))[1:]
    finally:
        made.shutdown()
    assert code == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: 127.0.0.2 has another nt_failures (0.1.0, sources ")
    assert last.endswith("Install on every node what is installed here.")
    assert small.calls == []


def test_a_node_with_another_package_that_joins_is_named_and_given_no_run(tmp_path, monkeypatch, paths, another):
    """Catches: recipes that are given up because a node of an old image has joined, which draws one run after
    another."""
    small = Study(tmp_path, monkeypatch)
    small.recipe("a", gate=small.gate)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": HERE})
    try:
        process = small.start("--engine", "ray", "--address", made.address, "--jobs", "2")
        until(lambda: small.calls == [("a", 0)], process)
        monkeypatch.setenv("PYTHONPATH", another)
        made.add_node(num_cpus=1, node_ip_address="127.0.0.3")
        named = next(line for line in process.stderr if "another" in line)
        small.gate.touch()
        errors, code = finish(process)[1:]
    finally:
        made.shutdown()
    assert "127.0.0.3 has another nt_failures (0.1.0, sources " in named
    assert code == 0, errors
    assert small.calls == small.results == [("a", 0), ("a", 1)]


def test_an_address_at_which_nobody_listens(small):
    """Catches: a study that tries for minutes, without a word."""
    small.recipe("a")
    errors, code = finish(small.start("--engine", "ray", "--address", "127.0.0.1:1"))[1:]
    assert code == 1
    assert "error: no cluster of Ray listens at 127.0.0.1:1" in errors
    assert small.calls == []
