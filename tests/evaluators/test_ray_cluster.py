"""Tests of Ray's cluster: how it is found, and the executor on nodes that come and go while it runs."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jobs import py, wait_until

from primordium.errors import ConfigError
from primordium.evaluators.executors import Job, Resources, make_executor

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from primordium.evaluators import ray_cluster  # noqa: E402
from primordium.evaluators.ray_executor import RayExecutor  # noqa: E402

STORE = 80_000_000
"""Bytes of a node's object store."""

QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""A lost node is known as such within seconds."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose head has two CPUs, noted in a folder where other test processes do not look."""
    folder = tempfile.mkdtemp(prefix="ray")  # a short name, for Ray puts sockets there
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        head = {
            "num_cpus": 2,
            "include_dashboard": False,
            "object_store_memory": STORE,
            "_system_config": QUICK,
        }
        os.makedirs(os.path.join(folder, "ray"))
        nodes = Cluster(initialize_head=True, head_node_args=head)
        yield nodes
        nodes.shutdown()  # type: ignore[no-untyped-call]
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def connected(cluster: Any) -> Iterator[Any]:
    """The cluster, with this process connected to it."""
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()


NODE = py("[time.sleep(0.2), __import__('ray').get_runtime_context().get_node_id()][1]")
"""A job that tells where it was run."""


@pytest.mark.parametrize("way", ["told", "killed"])
def test_no_job_is_lost_with_its_node(connected: Any, way: str) -> None:
    """Protects long runs from machines that go: every outcome arrives, and none is blamed."""
    node = connected.add_node(num_cpus=2, object_store_memory=STORE)
    with RayExecutor(eval, None) as executor:
        assert executor.workers == 3
        for id in range(24):
            executor.submit(Job(id, NODE))
        found = [executor.next()]
        while all(outcome.value != node.node_id for outcome in found):
            found.append(executor.next())
        if way == "killed":
            node.kill_raylet(check_alive=False)
        connected.remove_node(node)
        found += [executor.next() for _ in range(executor.pending())]
        assert sorted(outcome.id for outcome in found) == list(range(24))
        assert {outcome.reason for outcome in found} == {"ok"}
        wait_until(lambda: node.node_id not in ray_cluster.living_nodes())


def test_a_node_that_joins_is_used(connected: Any) -> None:
    """Protects from machines that stand idle: the number of workers follows what the cluster has."""
    with RayExecutor(eval, None) as executor:
        assert executor.workers == 1
        executor.submit(Job(0, NODE))
        here = executor.next().value
        node = connected.add_node(num_cpus=2, object_store_memory=STORE)
        seen = {here}

        def used() -> bool:
            for id in range(4):
                executor.submit(Job(id, NODE))
            seen.update(executor.next().value for _ in range(4))
            return seen == {here, node.node_id}

        wait_until(used)
        assert executor.workers == 3
    connected.remove_node(node)


def test_a_worker_waits_for_a_node_with_room(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a search that waits in silence, and from one that gives up on a cluster that grows."""
    said: list[str] = []
    nodes: list[Any] = []

    def report(line: str) -> None:
        said.append(line)
        nodes.append(connected.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE))

    monkeypatch.setattr("primordium.evaluators.ray_executor._LOOK", 0.1)
    with RayExecutor(eval, None, resources=Resources(1, 0.5), report=report) as executor:
        executor.submit(Job(0, "7"))
        assert executor.next().value == 7
    assert said == ["still waiting for room on Ray: a worker needs 1 CPU and 0.5 GPU on one node"]
    connected.remove_node(nodes[0])


@pytest.mark.parametrize("told", [True, False])
def test_a_running_cluster_is_joined_and_left(cluster: Any, told: bool) -> None:
    """Protects the cluster from its users: found by address or by its note, it outlives each of them."""
    for _ in range(2):
        with make_executor("ray", eval, 1, address=cluster.address if told else None) as executor:
            executor.submit(Job(0, NODE))
            assert executor.next().value == cluster.head_node.node_id
        assert not ray.is_initialized()


def test_a_machine_without_room_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from waiting for a GPU that no one will bring."""
    monkeypatch.setattr(ray, "init", partial(ray.init, include_dashboard=False))
    with pytest.raises(ConfigError, match="no room for a worker, which reserves 1 CPU and 64 GPU"):
        RayExecutor(eval, None, address="local", resources=Resources(1, 64))
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("nodes", "resources", "count"),
    [
        ([{"CPU": 4.0}], Resources(), 3),
        ([{"CPU": 1.0}], Resources(), 0),
        ([{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}], Resources(), 5),
        ([{"CPU": 5.0}, {"CPU": 2.0}], Resources(2), 3),
        ([{"CPU": 4.0}], Resources(0.5), 6),
        ([{"CPU": 1.0}, {"CPU": 8.0, "GPU": 2.0}], Resources(1, 0.25), 8),
        ([{"CPU": 16.0, "GPU": 3.0}], Resources(1, 2), 1),
        ([{"CPU": 1.0, "GPU": 2.0}], Resources(0, 0.5), 4),
        ([{"memory": 1.0}], Resources(), 0),
        ([], Resources(), 0),
    ],
)
def test_room_leaves_a_cpu_for_plain_tasks(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], resources: Resources, count: int
) -> None:
    """Protects plain tasks from waiting for ever: workers take all of the cluster but one CPU."""
    monkeypatch.setattr(ray_cluster, "living_nodes", lambda: dict(enumerate(nodes)))
    assert ray_cluster.room(resources) == count


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "nothing answers there"),
        ("no-such-host.invalid:6379", "nothing answers there"),
        ("127.0.0.1:99999", "nothing answers there"),
        ("somewhere", "give the host and port of a Ray cluster"),
        ("somewhere:else", "give the host and port of a Ray cluster"),
    ],
)
def test_an_address_without_ray_is_an_error(
    monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    """Protects from Ray's minutes of waiting for a cluster that is not there."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=message):
        ray_cluster.connect(address, 1, Resources(), print)


def test_a_cluster_that_is_gone_is_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects from the note that a killed Ray leaves behind."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert ray_cluster._last_started() is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert ray_cluster._last_started() is None
