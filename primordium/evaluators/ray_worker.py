"""A worker on a Ray cluster: an actor in a process of its own, from its start to its end.

Ray itself ends a process that does not answer, but takes seconds for it, which is why a worker tells where it
is: its process can then be killed as such, whatever it is doing.
"""

import os
import pickle
import platform
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from primordium.evaluators.executors import Resources
from primordium.evaluators.worker import ONE_THREAD, limit_memory, require_one_thread, run, sendable

_GRACE = 0.5  # seconds that Ray has to end a process before it is killed


@dataclass(frozen=True)
class Place:
    """Where a worker's process is.

    Attributes:
        node: Ray's id of the node.
        machine: see `machine`.
        pid: the process id there.
        birth: when the process started, as the kernel counts; ids are used again.
    """

    node: str
    machine: str
    pid: int
    birth: str | None


class RayWorker:
    """The actor. It has one thread, keeps its function, and is not interrupted by Ctrl-C.

    Args:
        function: a reference to what jobs call, in a list, so that it is this class which fetches it: large
            arrays in it stay where they are, in the memory that all workers of a node share.
        memory: see `limit_memory`.
    """

    def __init__(self, function: Sequence[Any], memory: float | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._function: Callable[[Any], Any] = ray.get(function[0])
        require_one_thread()
        if memory is not None:
            limit_memory(memory)

    def place(self) -> Place:
        """Where it is; that it answers says that it is ready."""
        pid = os.getpid()
        return Place(ray.get_runtime_context().get_node_id(), machine(), pid, _birth(pid))

    def run(self, payloads: Sequence[bytes]) -> list[bytes]:
        """The outcomes of jobs, as `worker.received` takes them, in the order of their payloads."""
        return [
            sendable(run(self._function, partial(pickle.loads, payload), disposable=True), pickled)
            for payload in payloads
        ]


def pickled(value: Any) -> bytes:
    """The bytes of nearly any value, of classes and functions of a notebook or script too."""
    return cast(bytes, cloudpickle.dumps(value))  # type: ignore[no-untyped-call]


def start_worker(function: Any, memory: float | None, resources: Resources) -> Any:
    """The handle of a new actor, which waits until some node has room for it. Ray never restarts it."""
    actor: Any = ray.remote(RayWorker)
    options = actor.options(
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        max_restarts=0,
        runtime_env={"env_vars": ONE_THREAD},  # read by torch when it is imported
    )
    return options.remote([function], memory)


def end_workers(workers: Sequence[tuple[Any, Place | None]]) -> None:
    """Ends the processes of actors at once, wherever they are; those without a place when Ray gets to it."""
    for actor, _ in workers:
        with suppress(Exception):  # an actor of a Ray that is gone
            ray.kill(actor, no_restart=True)
    places = [place for _, place in workers if place is not None]
    for place in places:
        if place.machine != machine():
            _end_there(place)
    for place in places:
        if place.machine == machine():
            _end_process(place.pid, place.birth)


def _end_there(place: Place) -> None:
    """Ends a process on another machine, by a task that needs nothing there but to be run."""
    task: Any = ray.remote(_end_process)
    there = NodeAffinitySchedulingStrategy(place.node, soft=False)
    with suppress(Exception):
        task.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(place.pid, place.birth)


def machine() -> str:
    """Names this machine and its namespace of process ids, which mean nothing elsewhere."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    return platform.node()


def _end_process(pid: int, birth: str | None) -> None:
    """Kills a process of this machine, unless Ray does so first, which warns of any kill but its own."""
    deadline = time.monotonic() + _GRACE
    while _birth(pid) == birth:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(_GRACE / 100)


def _birth(pid: int) -> str | None:
    """When a living process started, in clock ticks since the machine was booted; None if not known."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    return None
