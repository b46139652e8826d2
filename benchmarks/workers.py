"""What workers gain and what the driver costs: efficiency, driver time per candidate, a thousand workers.

    python benchmarks/workers.py [--part efficiency driver thousand] [--seconds 6] [--rounds 3]
        [--candidates 4000] [--mean 20] [--spread 0.25] [--turnovers 20] [--window 2] [--trace]

*efficiency*: evaluations that burn so much CPU time, through one serial executor in this process and through
warm workers, in turn; serial seconds over workers × wall seconds, the median of the rounds. Payloads and
results are those of a search.

*driver*: a search with the default screening, proposer and store whose evaluations cost nothing: CPU time of
this process for each candidate, by what it was spent on.

*thousand*: the same search with a thousand simulated workers, which sleep in real time for each evaluation:
how busy they are from when all have work to the last proposal, and the memory of this process on the way. A
worker gets its next evaluation when the driver gets to it, as with real executors. ``--trace`` tells what the
memory is, at the price of a slower driver.
"""

import argparse
import heapq
import math
import os
import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

from screening import processor

from primordium.configs.schema import RunConfig
from primordium.evaluators.evaluation import Evaluation, Request
from primordium.evaluators.executors import Executor, Job, Outcome, SerialExecutor, make_executor, usable_cpus
from primordium.plugins.methods import method
from primordium.primitives.serial import to_json
from primordium.search.progress import PROPOSAL, Progress
from primordium.search.store import Event, Store
from primordium.session import Session

MODELS = RunConfig().models
LENGTHS = (0.003, 0.03, 1.0)
KINDS = ("processes", "ray")
COUNTS = (1, 2)
IN_FLIGHT = 64
WORKERS = 1000


def answer(request: Request) -> Evaluation:
    """What a hash makes of a request: scores, or a death at a gate, which three of five suffer."""
    digest = blake2b(f"{request.graph}{request.seed}".encode(), digest_size=4).digest()
    if request.gated and digest[0] < 154:
        return Evaluation({}, "ten_step", "does not learn on residual", 30, seconds={"ten_step": 0.1})
    scores = {name: byte / 256 for name, byte in zip(MODELS, digest[1:], strict=True)}
    held_out = scores if request.held_out else {}
    return Evaluation(scores, None, None, 600, held_out, {"ten_step": 0.1, "hurdle": 0.1, "score": 0.1})


# ------------------------------------------------------------------------------------------------ efficiency


def burn(payload: tuple[float, Request]) -> tuple[int, Evaluation]:
    """Spends so many seconds of CPU time; the process it was in, and what an evaluation gives."""
    seconds, request = payload
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return os.getpid(), answer(request)


def requests(seconds: float) -> Iterator[Any]:
    """Payloads of the size that a search has."""
    graph = to_json(method("evonorm_b0").graph)
    return ((seconds, Request(graph, seed)) for seed in count())


def wall_seconds(executor: Executor, payloads: Iterator[Any], jobs: int) -> float:
    """How long so many jobs take with ``IN_FLIGHT`` of them in flight."""
    start = time.perf_counter()
    for id, payload in enumerate(islice(payloads, jobs)):
        executor.submit(Job(id, payload))
        if executor.pending() == IN_FLIGHT:
            require_ok(executor.next())
    while executor.pending():
        require_ok(executor.next())
    return time.perf_counter() - start


def require_ok(outcome: Outcome) -> Outcome:
    """The outcome; RuntimeError if it is none that a measurement may count."""
    if outcome.reason != "ok":
        raise RuntimeError(f"job {outcome.id}: {outcome.reason}: {outcome.error}")
    return outcome


def ready(executor: Executor) -> None:
    """Gives work to an executor until each of its workers has done some."""
    seen: set[int] = set()
    payloads = requests(0.02)
    while len(seen) < executor.workers:
        executor.submit(Job(0, next(payloads)))
        if executor.pending() == 2 * executor.workers:
            seen.add(require_ok(executor.next()).value[0])  # type: ignore[index]  # what `burn` gives
    wall_seconds(executor, payloads, 0)  # what is still pending


def efficiency(seconds: float, rounds: int) -> None:
    """Print a table for each kind of executor."""
    print(f"efficiency: {rounds} rounds of {seconds:g} s of work, {IN_FLIGHT} evaluations in flight")
    for kind in KINDS:
        with ExitStack() as stack:
            pools: dict[int, Executor] = {}
            for workers in sorted(COUNTS, reverse=True):  # the cluster that the first starts has room for all
                start = time.perf_counter()
                address = "local" if kind == "ray" else None
                pool = make_executor(kind, burn, workers, address=address)
                pools[workers] = stack.enter_context(pool)
                ready(pool)
                print(f"  {kind}: start-up of {workers}: {time.perf_counter() - start:.1f} s", flush=True)
            for length in LENGTHS:
                row = [f"{share:.1%} at {n}" for n, share in shares(pools, length, seconds, rounds).items()]
                print(f"  {kind}: {1e3 * length:5g} ms: {', '.join(row)}", flush=True)


def shares(pools: dict[int, Executor], length: float, seconds: float, rounds: int) -> dict[int, float]:
    """The efficiency at each number of workers."""
    jobs = 2 * max(1, round(seconds / length / 2))
    payloads = requests(length)
    for pool in pools.values():
        wall_seconds(pool, payloads, min(jobs, 150))  # the executor learns how long they are
    found: dict[int, list[float]] = {workers: [] for workers in pools}
    for _ in range(rounds):
        with SerialExecutor(burn) as serial:
            alone = wall_seconds(serial, payloads, jobs)
        for workers, pool in pools.items():
            found[workers].append(alone / (workers * wall_seconds(pool, payloads, jobs)))
    return {workers: statistics.median(found[workers]) for workers in sorted(found)}


# ---------------------------------------------------------------------------------------------------- driver


class Meter:
    """CPU seconds of this process by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count what a method of an object spends."""
        call = getattr(owner, method)

        def measured(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                return call(*arguments)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start

        setattr(owner, method, measured)


class Enough(Exception):
    """All has been proposed."""


@dataclass(frozen=True)
class Cost:
    """Milliseconds for each candidate: CPU time of this process by what it was spent on, and wall time."""

    parts: dict[str, float]
    wall: float
    raw: float

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {spent:.2f}" for name, spent in self.parts.items())
        total = sum(self.parts.values())
        return (
            f"{total:.2f} ms of CPU time a candidate ({parts}), {self.wall:.2f} ms of wall, "
            f"{self.raw:.1f} raw candidates"
        )


def search(candidates: int, window: int, executor: Executor, observe: Callable[[Progress], None]) -> Cost:
    """What a search costs until its last proposal, in a session as it is by default."""

    def observer(event: Event, progress: Progress) -> None:
        if event.kind == PROPOSAL:
            observe(progress)
            if progress.accepted == candidates:
                raise Enough

    session = Session(RunConfig(candidates=candidates, window=window))
    meter = Meter()
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.create(Path(folder) / "run", session.header()) as store,
    ):
        engine = session.engine(store, observer)
        meter.watch(engine, "next_proposal", "propose and screen")
        meter.watch(store, "append", "store")
        meter.watch(executor, "submit", "executor")
        meter.watch(executor, "next", "executor")
        start, wall = time.process_time(), time.perf_counter()
        with suppress(Enough):
            engine.run(executor)
            raise RuntimeError("the search space is too small for so many candidates")
        total, wall = time.process_time() - start, time.perf_counter() - wall
        parts = {**meter.seconds, "rest": total - sum(meter.seconds.values())}
        each = {name: 1e3 * seconds / candidates for name, seconds in parts.items()}
        return Cost(each, 1e3 * wall / candidates, engine.progress.raw / candidates)


def driver(candidates: int) -> None:
    """Print what a candidate costs this process."""
    print(f"driver: {candidates:,} candidates, {IN_FLIGHT} in flight")
    request = Request(to_json(method("evonorm_b0").graph), 0)
    for kind in ("serial", *KINDS):
        memory: dict[int, float] = {}

        def observe(progress: Progress, memory: dict[int, float] = memory) -> None:
            if progress.accepted % (candidates // 4) == 0:
                memory[progress.accepted] = resident()

        with make_executor(kind, answer, 1, address="local" if kind == "ray" else None) as executor:
            executor.submit(Job(0, request))
            require_ok(executor.next())
            cost = search(candidates, IN_FLIGHT, executor, observe)
        print(f"  {kind}: {cost}\n    memory {growth(memory)}", flush=True)


# -------------------------------------------------------------------------------------------------- thousand


class Sleepers(Executor):
    """Simulated workers that sleep in real time, and are given work when the driver calls."""

    def __init__(self, workers: int, duration: Callable[[], float]) -> None:
        self.workers = workers
        self._duration = duration
        self._queue: deque[Job] = deque()
        self._asleep: list[tuple[float, int, Outcome]] = []
        self._done: deque[Outcome] = deque()
        self._given = 0.0

    def submit(self, job: Job) -> None:
        self._queue.append(job)
        self._dispatch()

    def next(self) -> Outcome:
        while not self._done:
            time.sleep(max(0.0, self._asleep[0][0] - time.perf_counter()))
            now = time.perf_counter()
            while self._asleep and self._asleep[0][0] <= now:
                self._done.append(heapq.heappop(self._asleep)[2])
            self._dispatch()
        return self._done.popleft()

    def pending(self) -> int:
        return len(self._queue) + len(self._asleep) + len(self._done)

    def close(self) -> None:
        self._queue.clear()
        self._asleep.clear()

    @property
    def full(self) -> bool:
        """Whether no worker waits for work."""
        return len(self._asleep) == self.workers

    def worked(self, now: float) -> float:
        """Worker-seconds of work up to now."""
        return self._given - sum(max(0.0, end - now) for end, _, _ in self._asleep)

    def _dispatch(self) -> None:
        while self._queue and not self.full:
            job, seconds = self._queue.popleft(), self._duration()
            outcome = Outcome(job.id, answer(job.payload), None, "ok", seconds)
            heapq.heappush(self._asleep, (time.perf_counter() + seconds, job.id, outcome))
            self._given += seconds


class Watch:
    """How busy simulated workers are from when all have work, and the memory of this process on the way."""

    def __init__(self, executor: Sleepers, candidates: int) -> None:
        self.memory: dict[int, float] = {}
        self._executor = executor
        self._candidates = candidates
        self._begin: tuple[float, float] | None = None

    def __call__(self, progress: Progress) -> None:
        """Look, after a proposal."""
        if self._begin is None and self._executor.full:
            self._begin = self._now()
        if progress.accepted % (self._candidates // 8) == 0:
            self.memory[progress.accepted] = resident()

    def use(self) -> tuple[float, float]:
        """The share of the time that workers worked, and the seconds that it is a share of."""
        if self._begin is None:
            raise RuntimeError("the workers never all had work: the driver is too slow for such evaluations")
        (start, before), (end, after) = self._begin, self._now()
        return (after - before) / (self._executor.workers * (end - start)), end - start

    def _now(self) -> tuple[float, float]:
        now = time.perf_counter()
        return now, self._executor.worked(now)


def thousand(mean: float, spread: float, turnovers: int, window: float, trace: bool) -> None:
    """Print how busy the workers are and what the memory does."""
    candidates = WORKERS * turnovers
    draw = partial(Random(0).lognormvariate, math.log(mean) - spread**2 / 2, spread)
    print(
        f"thousand: {WORKERS:,} workers, evaluations of {mean:g} s (log-normal, sigma {spread:g}), "
        f"window {window:g} × workers, {candidates:,} candidates",
        flush=True,
    )
    with Sleepers(WORKERS, draw) as executor:
        watch = Watch(executor, candidates)
        if trace:
            tracemalloc.start()
        cost = search(candidates, round(window * WORKERS), executor, watch)
        use, seconds = watch.use()
    print(f"  the workers work for {use:.1%} of {seconds:.0f} s")
    print(f"  driver: {cost}\n  memory {growth(watch.memory)}")
    if trace:
        for line in tracemalloc.take_snapshot().statistics("lineno")[:25]:
            print(f"    {line}")


# ------------------------------------------------------------------------------------------------ the machine


def resident() -> float:
    """MiB of memory that this process has, where the system tells it."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if status.exists() else 0.0


def growth(memory: dict[int, float]) -> str:
    """Memory along the way, and its slope over the second half."""
    along = ", ".join(f"{size:.0f} MiB at {done:,}" for done, size in memory.items())
    done = sorted(memory)
    half = done[len(done) // 2 - 1]
    slope = (memory[done[-1]] - memory[half]) / (done[-1] - half) * 1000
    return f"{along}; second half {slope:+.2f} MiB per 1,000 candidates"


def main() -> None:
    """Run the parts and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("efficiency", "driver", "thousand")
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seconds", type=float, default=6.0, help="of work in a round of efficiency")
    parser.add_argument("--rounds", type=int, default=3, help="of efficiency")
    parser.add_argument("--candidates", type=int, default=4000, help="of driver")
    parser.add_argument("--mean", type=float, default=20.0, help="seconds of an evaluation in thousand")
    parser.add_argument("--spread", type=float, default=0.25, help="standard deviation of its logarithm")
    parser.add_argument("--turnovers", type=int, default=20, help="evaluations for each worker in thousand")
    parser.add_argument("--window", type=float, default=2.0, help="in flight, over workers, in thousand")
    parser.add_argument("--trace", action="store_true", help="where the memory is in thousand")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "sqlalchemy", "ray"))
    print(
        f"# {processor()}, {usable_cpus()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {versions}, "
        f"{time.strftime('%Y-%m-%d')}: python {' '.join(sys.argv)}",
        flush=True,
    )
    if "efficiency" in options.part:
        efficiency(options.seconds, options.rounds)
    if "driver" in options.part:
        driver(options.candidates)
    if "thousand" in options.part:
        thousand(options.mean, options.spread, options.turnovers, options.window, options.trace)


if __name__ == "__main__":
    main()
