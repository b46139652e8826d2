"""Random graphs through parse, type, canonicalize, JSON, identity and fingerprint: how many crash.

    python benchmarks/robustness.py [--graphs 100000] [--seed 0]

Every search space gives the same share in three streams: fresh random genomes, mutations of a drifting pool,
and random genomes with four times the operations. Each genome goes through its text and its JSON and back,
keeps its key on the way, is canonicalized, twice to the same graph, is expressed, and is fingerprinted. Exits
with status 1 if anything raises or differs.
"""

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from primordium.kernels.fingerprint import fingerprint
from primordium.primitives.graph import Graph, check
from primordium.primitives.identity import inline_derived, key
from primordium.primitives.passes import canonicalize
from primordium.primitives.serial import from_json, to_json
from primordium.primitives.text import parse, to_text
from primordium.search.space import SPACES, Space

POOL = 200


def random_stream(space: Space, random: Random) -> Iterator[Graph]:
    """Fresh random genomes."""
    while True:
        yield space.random(random)


def mutation_stream(space: Space, random: Random) -> Iterator[Graph]:
    """Children of a pool, mutated one to three times, each in the place of a random member."""
    pool = [space.random(random) for _ in range(POOL)]
    while True:
        child = space.mutate(random, random.choice(pool), 1 + random.randrange(3))
        pool[random.randrange(POOL)] = child
        yield child


def large_stream(space: Space, random: Random) -> Iterator[Graph]:
    """Random genomes with four times the operations of the space."""
    return random_stream(replace(space, size=4 * space.size), random)


STREAMS = {"random": random_stream, "mutation": mutation_stream, "large": large_stream}


def examine(space: Space, genome: Graph) -> str:
    """Take one genome through every form; what it turned out to be.

    Raises:
        AssertionError: a form did not come back as it went.
    """
    name = key(genome)
    assert key(check(parse(to_text(genome)))) == name, "the text has another key"
    assert from_json(to_json(genome)) == genome, "the JSON is another graph"
    check(canonicalize(genome))
    canonical = check(canonicalize(inline_derived(genome)))
    assert key(canonical) == name, "the canonical form has another key"
    assert canonicalize(canonical) == canonical, "the canonical form has another canonical form"
    expressed = check(space.express(genome))
    assert key(from_json(to_json(expressed))) == key(expressed), "the expressed graph's JSON has another key"
    return "not finite on the probes" if fingerprint(canonical) is None else "finite"


def survey(space: Space, stream: Iterator[Graph], count: int) -> tuple[Counter[str], int]:
    """What became of so many genomes, crashes by error, and the number of live nodes in all."""
    found: Counter[str] = Counter()
    live = 0
    for genome in islice(stream, count):
        live += len(genome.live)
        try:
            found[examine(space, genome)] += 1
        except Exception as error:
            found[f"crashed: {type(error).__name__}: {error}"] += 1
    return found, live


def processor() -> str:
    """The CPU's model name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> int:
    """Survey every space and stream, print a line for each and the total; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    print(f"# {processor()}; {versions}; {time.strftime('%Y-%m-%d')}; {' '.join(['python', *sys.argv])}")
    work = [(space, kind) for space in SPACES.values() for kind in STREAMS]
    total: Counter[str] = Counter()
    start = time.process_time()
    for place, (space, kind) in enumerate(work):
        count = options.graphs // len(work) + (place < options.graphs % len(work))
        begin = time.process_time()
        found, live = survey(
            space, STREAMS[kind](space, Random(f"{options.seed}:{space.name}:{kind}")), count
        )
        seconds = time.process_time() - begin
        outcomes = ", ".join(f"{name} {number:,}" for name, number in found.most_common())
        print(
            f"{space.name} {kind}: {count:,} graphs of {live / max(1, count):.1f} live nodes, {seconds:.1f} s"
        )
        print(f"    {outcomes}", flush=True)
        total += found
    crashes = sum(number for name, number in total.items() if name.startswith("crashed"))
    seconds = time.process_time() - start
    print(f"all: {sum(total.values()):,} graphs in {seconds:.1f} s of CPU time, {crashes} crashes")
    return int(crashes > 0)


if __name__ == "__main__":
    raise SystemExit(main())
