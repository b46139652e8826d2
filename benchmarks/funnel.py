"""The whole gate ladder against the naive loop, on the same raw stream: how much faster, and what it loses.

    python benchmarks/funnel.py [--survivors 1000] [--naive 150] [--data FILE]

The stream is mutations of a drifting population (``benchmarks/screening.py``). The naive loop trains every
raw candidate for 100 eager steps. The ladder screens the stream and trains what survives gate by gate, up to
the gate that kills. To know what the ladder loses, every candidate that is finite, has a gradient and is no
duplicate is trained for 100 steps with three seeds, whatever the other gates say: the best tenth is by the
mean validation accuracy over the seeds, the gates see the first seed alone, as in a search. All times are CPU
seconds of this process.

The network is the residual one, width 8, on scikit-learn's digits, batches of 32. ``--data`` keeps the
trainings in a file, so that other thresholds can be tried on them.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from screening import MutationStream

from primordium.configs.schema import RunConfig
from primordium.evaluators.evaluation import Evaluator, Plan, planned_evaluator
from primordium.evaluators.gate import Progress, ScreeningGate, Subject, TrainingGate
from primordium.evaluators.gates import make_gates
from primordium.evaluators.screening import Screen
from primordium.evaluators.training import Recipe, Trainer
from primordium.kernels.module import Backend
from primordium.plugins.methods import method
from primordium.primitives.graph import Graph
from primordium.primitives.serial import from_json, to_json
from primordium.search.space import get_space

MODEL = "residual"
STEPS = 100
SEEDS = (0, 1, 2)
SPACE = get_space("evonorm_b")
SAFE = ("static", "numeric", "gradient")
"""Gates that kill what cannot be trained; the others are judged."""


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


def train(
    home: Evaluator, graph: Graph, seed: int, backend: Backend = "auto"
) -> tuple[list[float], float, list[float]]:
    """Losses, final accuracy, and CPU seconds after each step."""
    start = time.process_time()
    network = home.network(MODEL, home.site(graph, backend), seed)
    trainer = Trainer(network, home.task, home.recipe, seed)
    seconds = []
    for step in range(1, STEPS + 1):
        if not trainer.run(step):
            break
        seconds.append(time.process_time() - start)
    accuracy = trainer.validation() if trainer.finite else 0.0
    return list(trainer.losses), accuracy, seconds


def collect(
    home: Evaluator, survivors: int, file: Path | None
) -> tuple[list[Training], int, float, list[Graph]]:
    """Trainings of survivors of the screen, how many raw candidates they took, seconds, and some raw ones."""
    screen = Screen([gate for gate in make_gates(RunConfig().gates)[0] if gate.name in SAFE])
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
        with suppress(RuntimeError):  # it may be unable to train; what it took until then counts
            train(home, genome, SEEDS[0], "torch_source")
        spent.append(time.process_time() - start)
    return spent


def death(
    training: Training, gates: Sequence[TrainingGate], chance: float, reference: Sequence[float]
) -> str | None:
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


def screened(trainings: Sequence[Training], gates: Sequence[ScreeningGate]) -> tuple[list[str | None], float]:
    """The other screening gate that kills each candidate, and the CPU seconds that takes."""
    subjects = [Subject(from_json(training.genome)) for training in trainings]
    start = time.process_time()
    deaths = [next((gate.name for gate in gates if gate.check(subject)), None) for subject in subjects]
    return deaths, time.process_time() - start


def report(
    home: Evaluator, trainings: list[Training], raw: int, screening: float, naive: list[float]
) -> None:
    """Print the comparison."""
    screens, training_gates = make_gates(RunConfig().gates)
    gates = tuple(gate for gate in training_gates if gate.steps < STEPS)
    judged = tuple(gate for gate in screens if gate.name not in SAFE)
    reference = train(home, method("bn_relu").graph, SEEDS[0])[0]
    place = {gate.name: 0 for gate in judged} | {gate.name: gate.steps for gate in gates}
    truth = [statistics.fmean(t.accuracy) for t in trainings]
    best = sorted(range(len(trainings)), key=lambda i: -truth[i])[: len(trainings) // 10]
    deaths, seconds = screened(trainings, judged)
    for i, training in enumerate(trainings):
        deaths[i] = deaths[i] or death(training, gates, home.chance or 0.0, reference)
    spent = screening + seconds
    for training, gate in zip(trainings, deaths, strict=True):
        taken = training.seconds if gate is None else training.seconds[: place[gate]]
        spent += taken[-1] if taken else 0.0
    alive = [i for i in best if deaths[i] is None]
    each, ladder = statistics.fmean(naive), spent / raw
    error = 1.96 * statistics.stdev(naive) / math.sqrt(len(naive))
    print(
        f"{raw:,} raw candidates, {len(trainings):,} finite with a gradient, no duplicate ({screening:.2f} s)"
    )
    for gate, steps in place.items():
        killed = [i for i, dead in enumerate(deaths) if dead == gate]
        lost = sum(i in best for i in killed)
        when = f"after {steps} steps" if steps else f"untrained, {seconds:.2f} s"
        print(f"  {gate:10} kills {len(killed):5}, {lost} of them of the best tenth ({when})")
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
    print(f"# {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    home = evaluator()
    train(home, method("bn_relu").graph, 0)  # warm up
    trainings, raw, seconds, stream = collect(home, arguments.survivors, arguments.data)
    report(home, trainings, raw, seconds, naive_seconds(home, stream, arguments.naive))


if __name__ == "__main__":
    main()
