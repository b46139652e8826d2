"""What one candidate scores: its layer in every architecture, trained gate by gate."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import nn

from primordium.errors import ConfigError
from primordium.evaluators.gate import Progress, TrainingGate
from primordium.evaluators.models.registry import MODELS, HasShape, build_model
from primordium.evaluators.task import Task
from primordium.evaluators.tasks import get_task
from primordium.evaluators.training import Recipe, Trainer, evaluate
from primordium.kernels.module import GraphModule
from primordium.plugins.methods import method
from primordium.plugins.primitives import load_primitives
from primordium.primitives.graph import Graph
from primordium.primitives.serial import from_json

SiteFactory = Callable[[int, bool], nn.Module]
ModelFactory = Callable[[SiteFactory, int], nn.Module]
"""Builds a network from a site factory and a seed for its own weights."""


def site_factory(graph: Graph) -> SiteFactory:
    """The norm-act site of a graph: the layer itself, or an activation behind a batch normalization."""
    if graph.domain == "layer":
        return lambda channels, apply_act: GraphModule(graph, channels, apply_act=apply_act)
    norm = method("bn").graph

    def site(channels: int, apply_act: bool) -> nn.Module:
        return nn.Sequential(GraphModule(norm, channels), GraphModule(graph, channels, apply_act=apply_act))

    return site


@dataclass(frozen=True)
class Plan:
    """Everything a score depends on besides the candidate and the seed; plain data that workers are sent.

    Attributes:
        task: name of the task, with its options.
        models: names of the architectures.
        width: their width.
        recipe: how to train.
    """

    task: str
    task_options: tuple[tuple[str, Any], ...] = ()
    models: tuple[str, ...] = ("residual", "inverted_bottleneck", "squeeze_excite")
    width: int = 8
    recipe: Recipe = field(default_factory=lambda: Recipe(steps=200))

    def __post_init__(self) -> None:
        for name in self.models:
            if name not in MODELS:
                raise ConfigError(f"models: there is no {name!r}; the models are {', '.join(MODELS)}")


@dataclass(frozen=True)
class Request:
    """One evaluation: a graph as canonical JSON, the seed, and what is asked of it.

    Attributes:
        graph: canonical JSON of the graph.
        seed: seed of weights and batches, the same for every candidate (common random numbers).
        gated: whether the training gates may end it early.
        split: the split that is scored.
    """

    graph: str
    seed: int
    gated: bool = True
    split: Literal["validation", "held_out"] = "validation"


@dataclass(frozen=True)
class Evaluation:
    """The outcome: a score per architecture, or the gate that killed it and why.

    Attributes:
        scores: the metric by architecture; empty when killed.
        gate, reason: what killed it.
        seconds: time by phase; not part of the outcome's identity.
    """

    scores: Mapping[str, float]
    gate: str | None = None
    reason: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        """What the log keeps, times apart."""
        return {"scores": dict(self.scores), "gate": self.gate, "reason": self.reason}


class Evaluator:
    """Trains candidates on one task.

    Args:
        task: the data, loss and metric.
        models: architectures by name.
        recipe: how to train.
        gates: training gates; those beyond the recipe's steps are left out.
    """

    def __init__(
        self,
        task: Task,
        models: Mapping[str, ModelFactory],
        recipe: Recipe,
        gates: Sequence[TrainingGate] = (),
    ) -> None:
        self.task = task
        self.models = dict(models)
        self.recipe = recipe
        self.gates = sorted((g for g in gates if g.steps <= recipe.steps), key=lambda g: g.steps)
        classes = getattr(task, "classes", None)
        self.chance = 1.0 / classes if classes else None

    def rehearse(self, graph: Graph) -> None:
        """Train every network one step with a known layer, so that mistakes in it show before the search.

        Raises:
            ConfigError: a network cannot be built, trained or measured, or has no site; names it.
        """
        for name, build in self.models.items():
            try:
                network = build(site_factory(graph), 0)
                Trainer(network, self.task, self.recipe, 0).run(1)
                float(evaluate(network, self.task, "validation"))
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                raise ConfigError(f"model {name!r} fails on task {self.task.name!r}: {what}") from error
            if not any(isinstance(module, GraphModule) for module in network.modules()):
                raise ConfigError(
                    f"model {name!r} has no site: take its layers from site(channels, apply_act)"
                )

    def evaluate(self, request: Request) -> Evaluation:
        """Train one candidate on every architecture, gate by gate, and score it."""
        site = site_factory(from_json(request.graph))
        networks = {name: build(site, request.seed) for name, build in self.models.items()}
        trainers = {
            name: Trainer(net, self.task, self.recipe, request.seed) for name, net in networks.items()
        }
        seconds: dict[str, float] = {}
        for gate in self.gates if request.gated else ():
            start = time.perf_counter()
            reason = gate.check(self._progress(trainers, gate))
            seconds[gate.name] = time.perf_counter() - start
            if reason is not None:
                return Evaluation({}, gate.name, reason, seconds)
        start = time.perf_counter()
        scores = {
            name: self._score(trainer, networks[name], request.split) for name, trainer in trainers.items()
        }
        seconds["score"] = time.perf_counter() - start
        return Evaluation(scores, seconds=seconds)

    def _progress(self, trainers: Mapping[str, Trainer], gate: TrainingGate) -> Progress:
        finite = {name: trainer.run(gate.steps) for name, trainer in trainers.items()}
        scores: dict[str, float] = {}
        if gate.needs_scores:
            scores = {name: t.validation() if finite[name] else 0.0 for name, t in trainers.items()}
        return Progress({n: tuple(t.losses) for n, t in trainers.items()}, finite, scores, self.chance)

    def _score(self, trainer: Trainer, network: nn.Module, split: Literal["validation", "held_out"]) -> float:
        if not trainer.run(self.recipe.steps):
            return 0.0
        score = float(evaluate(network, self.task, split))
        return score if math.isfinite(score) else 0.0


@lru_cache(maxsize=4)
def planned_evaluator(plan: Plan, gates: tuple[TrainingGate, ...]) -> Evaluator:
    """The evaluator of a plan, made once a process."""
    load_primitives()
    task = get_task(plan.task, **dict(plan.task_options))
    if plan.models and not (hasattr(task, "input_shape") and hasattr(task, "classes")):
        raise ConfigError(
            f"task {plan.task!r} has no input_shape and classes, which models {', '.join(plan.models)} need"
        )
    shaped = cast(HasShape, task)

    def factory(name: str) -> ModelFactory:
        return lambda site, seed: build_model(name, shaped, site, plan.width, seed)

    return Evaluator(task, {name: factory(name) for name in plan.models}, plan.recipe, gates)


def evaluate_request(work: tuple[Plan, tuple[TrainingGate, ...], Request]) -> Evaluation:
    """What a worker process runs."""
    plan, gates, request = work
    torch.set_num_threads(1)
    return planned_evaluator(plan, gates).evaluate(request)
