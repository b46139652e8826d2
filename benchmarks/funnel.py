"""The whole gate ladder against the naive loop, on the same raw stream: how much faster, and what it loses.

    python benchmarks/funnel.py [--survivors 1000] [--naive 150] [--data FILE]

The stream is mutations of a drifting population (``benchmarks/screening.py``). The naive loop trains every raw
candidate for 100 eager steps. The ladder screens the stream, trains what survives gate by gate, and stops at
the gate that kills. To know what the ladder loses, every survivor of the screen is trained for 100 steps with
three seeds, whatever the gates say: the best tenth is by the mean validation accuracy over the seeds, the
gates see the first seed alone, as in a search. All times are CPU seconds of this process.

The network is the residual one, width 8, on scikit-learn's digits, batches of 32. ``--data`` keeps the trainings
in a file, so that other thresholds can be tried on them.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from screening import MutationStream

from primordium.configs.schema import RunConfig
from primordium.evaluators.evaluation import Evaluator, Plan, planned_evaluator
from primordium.evaluators.gate import Progress, TrainingGate
from primordium.evaluators.gates import make_gates
from primordium.evaluators.screening import Screen
from primordium.evaluators.training import Recipe, Trainer
from primordium.plugins.methods import method
from primordium.primitives.graph import Graph
from primordium.primitives.serial import from_json, to_json
from primordium.search.space import get_space

MODEL = "residual"
STEPS = 100
SEEDS = (0, 1, 2)
SPACE = get_space("evonorm_b")


@dataclass
class Training:
    """One candidate trained for 100 steps.

    Attributes:
        genome: its genome, as JSON.
        losses: training losses by seed; shorter where a loss was not finite.
        accuracy: validation accuracy by seed at the end.
        seconds: CPU seconds since the start after each step of the first seed.
    """

    genome: str
    losses: list[list[float]]
    accuracy: list[float]
    seconds: list[float]


def evaluator() -> Evaluator:
    """The networks, data and recipe of the benchmark; the gates are asked separately."""
    plan = Plan("digits", models=(MODEL,), width=8, recipe=Recipe(steps=STEPS, lr=0.1))
    return planned_evaluator(plan, ())


def train(home: Evaluator, graph: Graph, seed: int) -> tuple[list[float], float, list[float]]:
    """Losses, final accuracy, and CPU seconds after each step."""
    start = time.process_time()
    network = home.network(MODEL, home.site(graph), seed)
    trainer = Trainer(network, home.task, home.recipe, seed)
    seconds = []
    for step in range(1, STEPS + 1):
        if not trainer.run(step):
            break
        seconds.append(time.process_time() - start)
    accuracy = trainer.validation() if trainer.finite else 0.0
    return list(trainer.losses), accuracy, seconds


def collect(home: Evaluator, survivors: int, file: Path | None) -> tuple[list[Training], int, float, list[Graph]]:
    """Trainings of survivors of the screen, how many raw candidates they took, seconds, and some raw ones."""
    screen = Screen(make_gates(RunConfig().gates)[0])
    stream = MutationStream(SPACE, Random(0))
    chosen: list[Graph] = []
    raw: list[Graph] = []
    start = time.process_time()
    for genome in stream:
        raw.append(genome)
        verdict = screen.judge(genome)
        if verdict.gate is None:
            screen.accept(verdict.subject, "survivor")
            stream.survived(genome)
            chosen.append(genome)
            if len(chosen) == survivors:
                break
    seconds = time.process_time() - start
    known = {t.genome: t for t in read(file)} if file is not None and file.exists() else {}
    trainings = []
    for number, genome in enumerate(chosen):
        text = to_json(genome)
        if text not in known:
            runs = [train(home, SPACE.express(genome), seed) for seed in SEEDS]
            known[text] = Training(text, [r[0] for r in runs], [r[1] for r in runs], runs[0][2])
            if file is not None:
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(asdict(known[text])) + "\n")
        trainings.append(known[text])
        if sys.stderr.isatty() and number % 10 == 0:
            print(f"\r{number + 1}/{len(chosen)}", end="", file=sys.stderr)
    return trainings, len(raw), seconds, raw


def read(file: Path) -> Iterator[Training]:
    """Trainings kept in a file."""
    for line in file.read_text(encoding="utf-8").splitlines():
        yield Training(**json.loads(line))


def naive_seconds(home: Evaluator, raw: Sequence[Graph], count: int) -> list[float]:
    """CPU seconds of 100 steps for a sample of raw candidates, whatever they are."""
    spent = []
    for genome in Random(1).sample(list(raw), count):
        start = time.process_time()
        try:
            train(home, genome, SEEDS[0])
        except (RuntimeError, ValueError, ArithmeticError):
            pass  # a raw candidate may be unable to train; what it took until then counts
        spent.append(time.process_time() - start)
    return spent


def death(training: Training, gates: Sequence[TrainingGate], chance: float, reference: Sequence[float]) -> str | None:
    """The training gate that kills a candidate on its first seed."""
    losses = training.losses[0]
    for gate in gates:
        seen = tuple(losses[: gate.steps])
        finite = len(losses) >= gate.steps
        progress = Progress(
            {MODEL: seen},
            {MODEL: finite},
            {MODEL: training.accuracy[0] if finite else 0.0} if gate.needs_scores else {},
            chance,
            reference={MODEL: tuple(reference[: gate.steps])},
        )
        if gate.check(progress) is not None:
            return gate.name
    return None


def report(home: Evaluator, trainings: list[Training], raw: int, screening: float, naive: list[float]) -> None:
    """Print the comparison."""
    screens, gates = make_gates(RunConfig().gates)
    gates = tuple(gate for gate in gates if gate.steps < STEPS)
    chance = home.chance or 0.0
    reference = train(home, method("bn_relu").graph, SEEDS[0])[0]
    place = {gate.name: gate.steps for gate in gates}
    truth = [statistics.fmean(t.accuracy) for t in trainings]
    best = sorted(range(len(trainings)), key=lambda i: -truth[i])[: len(trainings) // 10]
    deaths = [death(t, gates, chance, reference) for t in trainings]
    spent = 0.0
    for training, gate in zip(trainings, deaths, strict=True):
        taken = training.seconds[: place[gate]] if gate is not None else training.seconds
        spent += taken[-1] if taken else 0.0
    alive = [i for i in best if deaths[i] is None]
    each = statistics.fmean(naive)
    error = 1.96 * statistics.stdev(naive) / math.sqrt(len(naive))
    ladder = (screening + spent) / raw
    print(f"screen: {', '.join(gate.name for gate in screens)}, duplicates; training gates: {place}")
    print(f"{raw:,} raw candidates, {len(trainings):,} survive the screen ({screening:.1f} s)")
    for gate in place:
        killed = [i for i, dead in enumerate(deaths) if dead == gate]
        lost = sum(i in best for i in killed)
        print(f"  {gate:10} kills {len(killed):5} of {len(trainings):,}, {lost} of them in the best tenth")
    print(f"naive loop: {each:.3f} ± {error:.3f} s each, {3600 / each:,.0f} raw candidates/hour/core")
    print(f"ladder:     {ladder:.4f} s each, {3600 / ladder:,.0f} raw candidates/hour/core")
    print(f"ratio {each / ladder:.1f}×; {len(alive) / len(best):.1%} of the best tenth ({len(best)}) live")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--survivors", type=int, default=1000)
    parser.add_argument("--naive", type=int, default=150)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"# {platform.processor() or platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    home = evaluator()
    train(home, method("bn_relu").graph, 0)  # warm up
    trainings, raw, seconds, stream = collect(home, arguments.survivors, arguments.data)
    report(home, trainings, raw, seconds, naive_seconds(home, stream, arguments.naive))


if __name__ == "__main__":
    main()
