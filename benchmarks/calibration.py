"""Calibration of the gates: every known-good layer passes, every known-bad one dies where it should.

    python benchmarks/calibration.py [--seeds 2] [--workers 2]

What each gate measures of each known layer (``primordium/evaluators/known.py``) on each net. Thresholds are
fitted on the first net alone, so that the worst known-good layer passes with a factor of two to spare; the
defaults are then verified on the other nets. The known-bad layers go through the same ladder. The exit
status is 1 where a known-good layer dies, or a known-bad one does not die where it should.

Task, nets and training are those of the preset ``quick``, the seeds those that searches 0, 1, ... train
with. The ladder is the default one with ``stability``; the known-bad layers of sequences meet ``causality``
and ``padding`` as well.
"""

import argparse
import math
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from primordium.configs.schema import load_config
from primordium.evaluators.evaluation import Evaluator, Plan, Request, planned_evaluator
from primordium.evaluators.executors import Job, ProcessExecutor
from primordium.evaluators.gate import Progress, Subject, TrainingGate
from primordium.evaluators.gates import Gate, make_gates
from primordium.evaluators.known import KNOWN_BAD, NOT_KNOWN_GOOD, known_good
from primordium.evaluators.signal import layer_gains
from primordium.evaluators.stability import ascend
from primordium.evaluators.stability_gate import StabilityGate
from primordium.evaluators.training import Recipe
from primordium.evaluators.training_gates import Hurdle, Quality, TenStep
from primordium.plugins.methods import method
from primordium.primitives.graph import Graph
from primordium.primitives.serial import to_json
from primordium.search.seeds import search_seed

CONFIG = load_config("quick")
LADDER = {**CONFIG.gates, "stability": {}}
SEQUENCES = {**LADDER, "causality": {}, "padding": {}}
SCREENING_GATES, TRAINING_GATES = make_gates(LADDER)
GATES: tuple[Gate, ...] = (*SCREENING_GATES, *TRAINING_GATES)
MARGIN = 2.0

Death = tuple[str, str] | None
"""The first gate that kills and its reason."""


@dataclass(frozen=True)
class Threshold:
    """A threshold of a gate.

    Attributes:
        gate, field: its names in a configuration.
        upper: whether it is the most that passes, else the least.
        quantity: what is compared with it.
    """

    gate: str
    field: str
    upper: bool
    quantity: str

    @property
    def default(self) -> float:
        """Its value in the ladder."""
        (gate,) = (gate for gate in GATES if gate.name == self.gate)
        return float(getattr(gate, self.field))

    def worst(self, values: Iterable[float]) -> float:
        """Of values, the one nearest to death."""
        return (max if self.upper else min)(values)

    def mildest(self, values: Iterable[float]) -> float | None:
        """Of values, the one nearest to life that does not pass."""
        dead = [v for v in values if not (v <= self.default if self.upper else v >= self.default)]
        return (min if self.upper else max)(dead, default=None)

    def fitted(self, worst: float) -> float:
        """What lets the worst pass with the margin."""
        return worst * MARGIN if self.upper else worst / MARGIN


THRESHOLDS = (
    Threshold("static", "max_nodes", True, "operations"),
    Threshold("numeric", "largest", True, "output"),
    Threshold("gradient", "least", False, "slope"),
    Threshold("gradient", "most", True, "slope"),
    Threshold("signal", "least_signal", False, "signal"),
    Threshold("signal", "most_signal", True, "signal"),
    Threshold("signal", "least_gradient", False, "gradient"),
    Threshold("signal", "most_gradient", True, "gradient"),
    Threshold("ten_step", "growth", True, "ten_step"),
    Threshold("hurdle", "share", False, "hurdle"),
    Threshold("quality", "factor", False, "quality"),
    Threshold("stability", "ascent", False, "stability"),
)
SCREENED = ("operations", "output", "slope", "signal", "gradient")
TRAINED = tuple(gate.name for gate in TRAINING_GATES)


@dataclass(frozen=True)
class Sight:
    """What a training gate saw of a layer: its name, what it compares with its threshold, why it kills."""

    gate: str
    value: float
    reason: str | None


@dataclass
class Watched:
    """A training gate that writes down what it sees and kills nothing, so that the next sees the layer too.

    The last of a ladder ends the evaluation.
    """

    gate: TrainingGate
    last: bool
    seen: list[Sight]

    def __post_init__(self) -> None:
        self.name, self.steps, self.needs_scores = self.gate.name, self.gate.steps, self.gate.needs_scores

    def check(self, progress: Progress) -> str | None:
        """Ask the gate."""
        self.seen.append(Sight(self.name, value_of(self.gate, progress), self.gate.check(progress)))
        return "all is seen" if self.last else None


def value_of(gate: TrainingGate, progress: Progress) -> float:
    """What a gate compares with its threshold on the only net; infinite where that diverged."""
    (net,) = progress.losses
    losses, finite = progress.losses[net], progress.finite[net]
    match gate:
        case TenStep():
            return max(losses) / losses[0] if finite else math.inf
        case Hurdle():
            known = progress.reference[net]
            fall, whole = (known[0] - sum(s[-gate.mean_of :]) / gate.mean_of for s in (losses, known))
            return fall / whole if finite else -math.inf
        case Quality():
            return progress.scores[net] / (progress.chance or math.nan)
        case StabilityGate():
            trial, most = progress.trial, round(MARGIN * gate.ascent)
            assert trial is not None
            batch = trial.batch(gate.batch_size)
            return ascend(trial.networks[net](), *batch, trial.loss, most, gate.rate, gate.limit).steps
    raise ValueError(f"gate {gate.name!r} is not calibrated here")


@lru_cache
def bench(net: str) -> tuple[Evaluator, list[Sight]]:
    """The evaluator of one net with a watched ladder, and what that has seen."""
    recipe = Recipe(**CONFIG.training.model_dump())
    home = planned_evaluator(Plan(CONFIG.task.name, (), CONFIG.models, CONFIG.width, recipe), ())
    seen: list[Sight] = []
    watched = [Watched(gate, gate is TRAINING_GATES[-1], seen) for gate in TRAINING_GATES]
    reference = replace(method(CONFIG.final.baselines[0]).graph, groups=CONFIG.groups)
    return Evaluator(home.task, {net: home.models[net]}, recipe, watched, reference=reference), seen


def train(job: tuple[str, int]) -> dict[str, list[list[Sight]]]:
    """What a worker does: one graph through the training gates, by net and seed."""
    graph, seeds = job
    found: dict[str, list[list[Sight]]] = {net: [] for net in CONFIG.models}
    for net, by_seed in found.items():
        for seed in range(seeds):
            evaluator, seen = bench(net)
            seen.clear()
            evaluator.evaluate(Request(graph, search_seed(seed)))
            by_seed.append(list(seen))
    return found


@dataclass
class Record:
    """One layer's way through the ladder.

    Attributes:
        name: the method's, or the text of a known-bad one.
        graph: what is judged.
        values: what the screening gates compare with their thresholds, by quantity.
        screened: its death in the screen.
        sights: what the training gates saw by net and seed.
    """

    name: str
    graph: Graph
    values: dict[str, float]
    screened: Death
    sights: dict[str, list[list[Sight]]] = field(default_factory=dict)

    def deaths(self, net: str) -> list[Death]:
        """Its death on a net by seed."""
        if self.screened is not None:
            return [self.screened]
        return [
            next(((s.gate, s.reason) for s in seen if s.reason is not None), None)
            for seen in self.sights[net]
        ]

    def measured(self, threshold: Threshold, net: str) -> float | None:
        """What is compared with a threshold, the worst of the seeds; ``None`` where it did not get so far."""
        if threshold.quantity in self.values:
            return self.values[threshold.quantity]
        seen = [s.value for by_seed in self.sights.get(net, ()) for s in by_seed if s.gate == threshold.gate]
        return threshold.worst(seen) if seen else None


def screen(name: str, graph: Graph, ladder: Mapping[str, Mapping[str, object]]) -> Record:
    """One layer through the screening gates of a ladder."""
    subject = Subject(replace(graph, groups=CONFIG.groups))
    checks = ((gate.name, gate.check(subject)) for gate in make_gates(ladder)[0])
    death = next(((gate, reason) for gate, reason in checks if reason is not None), None)
    seen = subject.behaviour
    values = (
        sum(bool(node.args) for node in subject.graph.nodes),
        math.inf if seen is None else seen.outputs,
        math.inf if seen is None else seen.gradients,
        *(value if math.isfinite(value) else math.inf for value in layer_gains(subject.graph).growth),
    )
    return Record(name, subject.graph, dict(zip(SCREENED, values, strict=True)), death)


def train_all(records: Sequence[Record], seeds: int, workers: int) -> None:
    """Train whatever passes the screen."""
    with ProcessExecutor(train, workers) as executor:
        for place, record in enumerate(records):
            if record.screened is None:
                executor.submit(Job(place, (to_json(record.graph), seeds)))
        while executor.pending():
            outcome = executor.next()
            if outcome.value is None:
                raise SystemExit(f"{records[outcome.id].name}: {outcome.error}")
            records[outcome.id].sights = outcome.value
            if sys.stderr.isatty():
                print(f"\r{executor.pending():4} to train ", end="", file=sys.stderr)


def number(value: float | None) -> str:
    """A value in a table."""
    return "–" if value is None else f"{value:.3g}"


def print_table(*rows: Sequence[str]) -> None:
    """Aligned columns, the first and the last to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others, last in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:-1], strict=True))
        print("  ".join((first.ljust(widths[0]), *cells, last)).rstrip())
    print()


def death_text(deaths: Iterable[Death]) -> str:
    """The deaths of some seeds, each kind once, without the net's name."""
    kinds = dict.fromkeys("lives" if death is None else f"{death[0]}: {death[1]}" for death in deaths)
    text = ", ".join(kinds)
    for net in CONFIG.models:
        text = text.replace(f" on {net}", "")
    return text


def print_measured(records: Sequence[Record]) -> None:
    """What each gate measures of each layer: in the screen, then on each net."""
    print("What the screening gates measure: number of operations, largest output and slope on the probes,")
    print("and the factor a layer of second moments and of squared gradients in a deep net.")
    rows = [(r.name, *(number(r.values[name]) for name in SCREENED), "") for r in records]
    print_table(("", *SCREENED, ""), *rows)
    print(
        "What the training gates measure, the worst of the seeds: growth of the loss in ten steps, share of"
    )
    print("the reference's fall, score over chance, ascent steps (at most twice the threshold were taken).")
    for net in CONFIG.models:
        own = [t for t in THRESHOLDS if t.quantity in TRAINED]
        rows = [
            (r.name, *(number(r.measured(t, net)) for t in own), death_text(r.deaths(net)))
            for r in records
            if r.sights
        ]
        print_table((net, *(t.gate for t in own), ""), *rows)


def print_fit(good: Sequence[Record], bad: Sequence[Record]) -> None:
    """The thresholds that the first net asks for, the defaults, and the worst of the other nets."""
    first = CONFIG.models[0]
    print(f"Thresholds. Fitted on {first} alone: the worst known-good layer there (named) passes by a factor")
    print(
        f"of {MARGIN:g}. Beside the defaults: the mildest value there of the known-bad layers that they kill,"
    )
    print("and the worst known-good value on each net.")
    rows = []
    for t in THRESHOLDS:
        by_net = {n: {r.name: v for r in good if (v := r.measured(t, n)) is not None} for n in CONFIG.models}
        worst = {net: t.worst(values.values()) for net, values in by_net.items()}
        who = next(name for name, value in by_net[first].items() if value == worst[first])
        own = (r for expected, r in zip(KNOWN_BAD, bad, strict=True) if expected.gate == t.gate)
        dead = t.mildest(v for r in own if (v := r.measured(t, first)) is not None)
        fitted = t.fitted(worst[first])
        cells = (fitted, t.default, dead, *worst.values())
        tight = t.worst((fitted, t.default)) == fitted != t.default
        note = f"{who}, margin below {MARGIN:g}" if tight else who
        rows.append((f"{t.gate}.{t.field}", "≤" if t.upper else "≥", *map(number, cells), note))
    print_table(("", "", "fitted", "default", "bad", *CONFIG.models, f"worst on {first}"), *rows)


def print_bad(bad: Sequence[Record]) -> None:
    """Where each known-bad layer should die, and dies."""
    print("Known-bad layers: the gate that should kill each, and what happens on each net.")
    for expected, record in zip(KNOWN_BAD, bad, strict=True):
        print(f"{expected.gate}: {expected.text}\n    {expected.why}")
        if record.screened is not None:
            print(f"    {death_text([record.screened])}")
        else:
            print(*(f"    {net}: {death_text(record.deaths(net))}" for net in CONFIG.models), sep="\n")
    print()


def print_exceptions(records: Sequence[Record]) -> None:
    """What happens to the methods that need not pass."""
    print("Registered methods that need not pass, by reason.")
    for reason in dict.fromkeys(NOT_KNOWN_GOOD.values()):
        print(reason)
        for record in (r for r in records if NOT_KNOWN_GOOD[r.name] == reason):
            ends = [f"{net}: {death_text(record.deaths(net))}" for net in CONFIG.models]
            same = record.screened is not None
            print(f"    {record.name}: {death_text([record.screened]) if same else '; '.join(ends)}")
    print()


def faults(good: Sequence[Record], bad: Sequence[Record]) -> list[str]:
    """What is not as it should be."""
    found = []
    for net in CONFIG.models:
        for record in good:
            if any(record.deaths(net)):
                found.append(f"known-good {record.name} on {net}: {death_text(record.deaths(net))}")
        for expected, record in zip(KNOWN_BAD, bad, strict=True):
            if any(death is None or death[0] != expected.gate for death in record.deaths(net)):
                deaths = death_text(record.deaths(net))
                found.append(f"known-bad {record.name} on {net}: {deaths}, not {expected.gate}")
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    start = time.perf_counter()
    good = [screen(name, graph, LADDER) for name, graph in known_good(CONFIG.groups).items()]
    other = [screen(name, method(name).graph, LADDER) for name in NOT_KNOWN_GOOD]
    bad = [screen(b.text, b.graph, SEQUENCES if b.only_in_sequences else LADDER) for b in KNOWN_BAD]
    train_all([*good, *other, *bad], arguments.seeds, arguments.workers)
    print(f"# {platform.processor() or platform.machine()}, torch {torch.__version__}, ", end="")
    print(f"{arguments.seeds} seeds, {time.perf_counter() - start:.0f} s")
    print_fit(good, bad)
    print_bad(bad)
    print_exceptions(other)
    print_measured([*good, *other])
    wrong = faults(good, bad)
    print(f"{len(good)} known-good and {len(bad)} known-bad layers, {len(wrong)} not where they should be")
    print(*wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
