"""Candidates per second per core through propose → type → canonicalize → static → fingerprint → dedup.

    python benchmarks/screening.py [--candidates 100000] [--space evonorm_b] [--profile]

Two streams: random genomes of ten operation nodes (Liu et al. 2020), and mutations of a drifting population,
which become larger and less often duplicates the longer it drifts: so many candidates, not so many seconds.
Prints raw candidates and unique survivors per second of process CPU time, the ladder's account, and the
peak memory; then fingerprints per second, by the compiled machine with and without its hash and by NumPy.
``--profile`` prints the hottest functions.
"""

import argparse
import cProfile
import platform
import pstats
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np

from primordium.evaluators.gate import Subject
from primordium.evaluators.screening import Screen
from primordium.evaluators.screening_gates import Gradient, Numeric, Static
from primordium.kernels.fingerprint import fingerprint, measured
from primordium.kernels.tape import available
from primordium.kernels.tape.fingerprint import encoded
from primordium.kernels.tape.walk import walk
from primordium.primitives.canonicalizer import Canonicalizer
from primordium.primitives.graph import Graph
from primordium.search.space import Space, get_space


def random_stream(space: Space, random: Random) -> Iterator[Graph]:
    """Fresh random genomes."""
    while True:
        yield space.random(random)


class MutationStream:
    """Children of a population of 200, each mutated once; every twentieth survivor replaces a member."""

    def __init__(self, space: Space, random: Random) -> None:
        self.space, self.random = space, random
        screen = Screen([Static(), Numeric(), Gradient()])
        self.population: list[Graph] = []
        while len(self.population) < 200:
            verdict = screen.judge(space.random(random))
            if verdict.gate is None:
                screen.accept(verdict.subject, "seed")
                self.population.append(verdict.subject.genome)
        self.survivors = 0

    def __iter__(self) -> Iterator[Graph]:
        while True:
            parent = self.population[int(self.random.random() * len(self.population))]
            yield self.space.mutate(self.random, parent)

    def survived(self, genome: Graph) -> None:
        """Let every twentieth survivor into the population."""
        self.survivors += 1
        if self.survivors % 20 == 0:
            self.population[self.random.randrange(len(self.population))] = genome


def screen_for(
    stream: Iterator[Graph], screen: Screen, candidates: int, survived: Callable[[Graph], None]
) -> tuple[int, int]:
    """Screen so many; raw candidates and unique survivors."""
    raw = unique = 0
    for genome in stream:
        raw += 1
        verdict = screen.judge(genome)
        if verdict.gate is None:
            screen.accept(verdict.subject, "survivor")
            unique += 1
            survived(genome)
        if raw >= candidates:
            break
        if raw % 131_072 == 0:
            print(f"  after {raw:,}: peak memory {peak_memory():.0f} MiB", flush=True)
    return raw, unique


def report(name: str, screen: Screen, raw: int, unique: int, seconds: float) -> None:
    """Print one stream's figures."""
    rates = f"{raw / seconds:,.0f} raw candidates/s, {unique / seconds:,.0f} unique survivors/s"
    print(f"{name}: {rates} ({raw:,} raw, {unique:,} unique)")
    for gate, account in screen.accounts.items():
        reasons = ", ".join(f"{reason} {count / raw:.1%}" for reason, count in account.killed.most_common())
        each = 1e6 * account.seconds / max(1, account.seen)
        print(f"  {gate:<10} seen {account.seen / raw:6.1%}  {each:7.1f} µs each  killed: {reasons}")
    print(f"  peak memory {peak_memory():.0f} MiB")


def canonical_graphs(space: Space, random: Random, count: int) -> list[Graph]:
    """Canonical graphs that the static gate lets through."""
    canonicalizer, gate = Canonicalizer(walk=walk), Static()
    found: list[Graph] = []
    while len(found) < count:
        subject = Subject(space.random(random), canonicalizer)
        if gate.check(subject) is None:
            found.append(subject.graph)
    return found


def rate(function: Callable[[Graph], object], graphs: Sequence[Graph], repeats: int = 5) -> float:
    """Graphs per second of process CPU time, the median of some rounds."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        for graph in graphs:
            function(graph)
        seconds.append(time.process_time() - start)
    return len(graphs) / statistics.median(seconds)


def unhashed(graph: Graph) -> object:
    """The rounded features of a fingerprint."""
    code = encoded(graph)
    return None if code is None else measured(graph, code)


def hashed(graph: Graph) -> object:
    """The whole fingerprint."""
    return fingerprint(graph, canonical=True)


def report_fingerprints(space: Space) -> None:
    """Print fingerprints per second of all graphs and of those as large as REF14, canonical form given."""
    graphs = canonical_graphs(space, Random(2), 3000)
    larger = canonical_graphs(replace(space, size=40), Random(2), 3000)
    large = [graph for graph in larger if 11 <= len(graph.nodes) <= 16]
    for name, some in (("static survivors", graphs), ("graphs of 11 to 16 nodes", large)):
        nodes = statistics.mean(len(graph.nodes) for graph in some)
        with patch("primordium.kernels.fingerprint.encoded", return_value=None):
            numpy = rate(hashed, some[:300])
        print(f"fingerprints of {name} ({len(some):,}, mean {nodes:.1f} nodes), per second:")
        if available():
            print(f"  rounded, not hashed {rate(unhashed, some):,.0f}; hashed {rate(hashed, some):,.0f}")
        print(f"  by NumPy {numpy:,.0f}")


def peak_memory() -> float:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Run both streams and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--space", default="evonorm_b")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    space = get_space(options.space)
    print(
        f"# {processor()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{time.strftime('%Y-%m-%d')}: python {' '.join(sys.argv)}"
    )
    for name in ("random", "mutation"):
        random = Random(1)
        mutations = MutationStream(space, random)
        stream = random_stream(space, random) if name == "random" else iter(mutations)
        screen = Screen([Static(), Numeric(), Gradient()])
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        start = time.process_time()
        raw, unique = screen_for(
            stream, screen, options.candidates, mutations.survived if name == "mutation" else lambda _: None
        )
        seconds = time.process_time() - start
        profile.disable()
        report(name, screen, raw, unique, seconds)
        if options.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)
    report_fingerprints(space)


if __name__ == "__main__":
    main()
