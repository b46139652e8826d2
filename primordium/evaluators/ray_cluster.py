"""The Ray cluster that workers are on: one that runs already, or one started here; and what room it has."""

import logging
import math
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from primordium.errors import ConfigError
from primordium.evaluators.executors import Resources, usable_cpus

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_REACH = 10.0  # seconds to wait for an answer from the address of a cluster; Ray itself waits for minutes


def connect(
    address: str | None, workers: int | None, resources: Resources, report: Callable[[str], None]
) -> bool:
    """Connects this process to a Ray cluster, where it is not connected yet.

    Args:
        address: of a cluster; "local" for a fresh one on this machine; None for the one that `RAY_ADDRESS` or
            the last `ray start` on this machine names, else a fresh one.
        workers: how many a fresh one is for; None for as many as there are CPUs.
        resources: what each reserves. A fresh cluster has one CPU more, so that plain tasks find one too.
        report: told where the dashboard of a fresh one is.

    Returns:
        Whether `ray.shutdown` is to undo it.

    Raises:
        ConfigError: there is no cluster at the address, or no room for a worker on this machine.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else some versions of Ray warn
    found = address or os.environ.get("RAY_ADDRESS") or _last_started()
    if found is not None and found != "local":
        _join(found)
    else:
        busy = usable_cpus() if workers is None else math.ceil(workers * resources.cpus)
        _start(busy + 1, resources, report)
    return True


def _start(cpus: int, resources: Resources, report: Callable[[str], None]) -> None:
    url = ray.init("local", num_cpus=cpus, **_QUIET).dashboard_url
    if room(resources) == 0:
        ray.shutdown()
        raise ConfigError(f"this machine has no room for a worker, which reserves {resources}")
    report(f"Ray's dashboard is at http://{url}" if url else "Ray has no dashboard without ray[default]")


def _join(address: str) -> None:
    where = f"executor.address {address!r}"
    if address != "auto":
        host, _, port = address.rpartition("://")[2].rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"{where}: give the host and port of a Ray cluster, such as 10.0.0.1:6379")
        if not _answers(host, int(port)):
            raise ConfigError(f"{where}: nothing answers there; start Ray there, or give another address")
    try:
        ray.init(address, **_QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{where}: cannot connect to Ray: {error}") from error


def _last_started() -> str | None:
    """The address of the cluster that `ray start` on this machine noted last, if it still answers.

    Ray's own "auto" would also join a cluster that some other program has started for itself, and is full.
    """
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        address = Path(folder, "ray", "ray_current_cluster").read_text().strip()
    except OSError:
        return None
    host, _, port = address.rpartition(":")
    return address if port.isdigit() and _answers(host, int(port)) else None


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host.strip("[]"), port), _REACH).close()
    except (OSError, OverflowError):  # the latter for a port beyond 65535
        return False
    return True


def living_nodes() -> dict[str, dict[str, float]]:
    """What the nodes that are alive have, by their id: Ray's names of resources and amounts."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}


def room(resources: Resources) -> int:
    """How many workers the cluster has room for if nothing else runs and a CPU is left for plain tasks."""
    nodes = living_nodes().values()
    counts = [_room_on(node, resources) for node in nodes]
    left = [node.get("CPU", 0.0) - n * resources.cpus for node, n in zip(nodes, counts, strict=True)]
    missing = 1 - max(left, default=1.0)
    spared = math.ceil(missing / resources.cpus - 1e-9) if missing > 0 and resources.cpus > 0 else 0
    return max(0, sum(counts) - spared)


def _room_on(node: dict[str, float], resources: Resources) -> int:
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    shares = [node.get(name, 0.0) / amount for name, amount in wanted.items() if amount > 0]
    return math.floor(min(shares) + 1e-9)
