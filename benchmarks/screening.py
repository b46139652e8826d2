"""Candidates per second per core through propose → type → canonicalize → static → fingerprint → dedup.

    python benchmarks/screening.py [--seconds 10] [--space evonorm_b] [--million] [--profile]

Two streams: random genomes of ten operation nodes (Liu et al. 2020), and mutations of a drifting population.
Prints raw candidates and unique survivors per second of process CPU time, the ladder's account, and the
peak memory; ``--million`` screens a million candidates and prints the peak along the way, ``--profile`` the
hottest functions.
"""

import argparse
import cProfile
import platform
import pstats
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np

from primordium.evaluators.screening import Screen
from primordium.evaluators.screening_gates import Gradient, Numeric, Static
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
            yield self.space.mutate(self.random, self.random.choice(self.population))

    def survived(self, genome: Graph) -> None:
        """Let every twentieth survivor into the population."""
        self.survivors += 1
        if self.survivors % 20 == 0:
            self.population[self.random.randrange(len(self.population))] = genome


def screen_for(
    stream: Iterator[Graph], screen: Screen, stop: Callable[[int], bool], survived: Callable[[Graph], None]
) -> tuple[int, int]:
    """Screen until told to stop; raw candidates and unique survivors."""
    raw = unique = 0
    for genome in stream:
        raw += 1
        verdict = screen.judge(genome)
        if verdict.gate is None:
            screen.accept(verdict.subject, "survivor")
            unique += 1
            survived(genome)
        if raw % 256 == 0 and stop(raw):
            break
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
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--space", default="evonorm_b")
    parser.add_argument("--million", action="store_true")
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
        start = time.process_time()

        def stop(raw: int, start: float = start) -> bool:
            if not options.million:
                return time.process_time() - start > options.seconds
            if raw % 131_072 == 0:
                print(f"  after {raw:,}: peak memory {peak_memory():.0f} MiB", flush=True)
            return raw >= 1_000_000

        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        raw, unique = screen_for(
            stream, screen, stop, mutations.survived if name == "mutation" else lambda _: None
        )
        profile.disable()
        report(name, screen, raw, unique, time.process_time() - start)
        if options.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
