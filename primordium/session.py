"""The life of a run: started from a configuration, resumed, verified, confirmed; its files and its header."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from primordium import __version__
from primordium.configs.schema import RunConfig, check_config
from primordium.errors import ConfigError, StoreError
from primordium.evaluators.evaluation import (
    Evaluation,
    Evaluator,
    ModelFactory,
    Plan,
    Request,
    evaluate_request,
    planned_evaluator,
)
from primordium.evaluators.executors import Executor, Job, Outcome, SerialExecutor, make_executor
from primordium.evaluators.gate import ScreeningGate, TrainingGate
from primordium.evaluators.gates import make_gates
from primordium.evaluators.task import Task
from primordium.evaluators.training import Recipe
from primordium.plugins.methods import method
from primordium.plugins.novelty import is_known
from primordium.plugins.primitives import load_primitives
from primordium.primitives.graph import Graph
from primordium.primitives.serial import to_json
from primordium.search.engine import Engine, Observer, Settings, result_payload
from primordium.search.progress import FAILURE, Progress, fitness
from primordium.search.proposers import make_proposer
from primordium.search.seeds import search_seed, training_seed
from primordium.search.space import Space, get_space
from primordium.search.store import Store

FORMAT = 1


@dataclass(frozen=True)
class Problem:
    """A user's own task and networks, in place of those a configuration names.

    Attributes:
        task: data, loss and metric.
        models: network factories by name, each called with a site factory and a seed.
    """

    task: Task
    models: Mapping[str, ModelFactory]


@dataclass
class Session:
    """A run with everything its configuration names, made.

    Attributes:
        config: the configuration.
        problem: the user's own problem, where there is one; it is evaluated in this process.
    """

    config: RunConfig
    problem: Problem | None = None
    space: Space = field(init=False)
    screening: tuple[ScreeningGate, ...] = field(init=False)
    training: tuple[TrainingGate, ...] = field(init=False)

    def __post_init__(self) -> None:
        load_primitives()
        self.space = replace(get_space(self.config.space), groups=self.config.groups)
        self.screening, self.training = make_gates(self.config.gates)
        self.plan = Plan(
            self.config.task.name,
            tuple(sorted(self.config.task.options.items())),
            self.config.models if self.problem is None else (),
            self.config.width,
            Recipe(**self.config.training.model_dump()),
        )
        self.proposer = make_proposer(self.config.proposer.name, self.space, self.config.proposer.options)
        self.baselines = {name: self._baseline(name) for name in self.config.final.baselines}

    def _baseline(self, name: str) -> Graph:
        graph = replace(method(name).graph, groups=self.config.groups)
        if graph.domain != self.space.domain:
            raise ConfigError(
                f"final.baselines: {name!r} is a graph of domain {graph.domain!r}, "
                f"but space {self.space.name!r} has {self.space.domain!r}"
            )
        return graph

    @property
    def evaluator(self) -> Evaluator:
        """What scores candidates."""
        if self.problem is None:
            return planned_evaluator(self.plan, self.training)
        return Evaluator(self.problem.task, self.problem.models, self.plan.recipe, self.training)

    def header(self) -> dict[str, Any]:
        """What a run is: its configuration, versions and data. Resuming compares it."""
        evaluator = self.evaluator
        return {
            "format": FORMAT,
            "config": self.config.model_dump(mode="json"),
            "models": sorted(evaluator.models),
            "problem": "the configuration's" if self.problem is None else "the user's own",
            "data": evaluator.task.fingerprint(),
            "versions": {
                "primordium": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
        }

    def settings(self) -> Settings:
        """What shapes the log."""
        config = self.config
        return Settings(
            config.seed,
            config.candidates,
            config.batch,
            config.window,
            config.final.finalists,
            config.final.seeds,
            self.baselines,
        )

    def engine(self, store: Store, observer: Observer | None = None) -> Engine:
        """The engine on a log."""
        return Engine(
            self.settings(), self.proposer, self.screening, self.space.express, store, observer, is_known
        )

    def rehearse(self) -> None:
        """Train each network one step with a known layer: a mistake in one must not fill a log with failures.

        Raises:
            ConfigError: names the network, and says what is wrong.
        """
        self.evaluator.rehearse(method("bn_relu" if self.space.domain == "layer" else "relu").graph)

    def executor(self) -> Executor:
        """Where evaluations run."""
        if self.problem is not None:
            return SerialExecutor(self.evaluator.evaluate)
        chosen = self.config.executor
        workers = worker_count(self.config)
        return _Planned(
            make_executor(chosen.kind, evaluate_request, workers, chosen.timeout), self.plan, self.training
        )


def worker_count(config: RunConfig) -> int:
    """How many evaluations run at a time: what the configuration says, else one for each usable CPU."""
    if config.executor.kind == "serial":
        return 1
    return config.executor.workers or usable_cpus()


def usable_cpus() -> int:
    """The CPUs that this process may use: in a container or under ``taskset`` fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Planned(Executor):
    """Sends the plan along with each request, so that a worker needs nothing else."""

    def __init__(self, inner: Executor, plan: Plan, gates: tuple[TrainingGate, ...]) -> None:
        self.workers = inner.workers
        self._inner = inner
        self._plan = plan
        self._gates = gates

    def submit(self, job: Job) -> None:
        self._inner.submit(Job(job.id, (self._plan, self._gates, job.payload)))

    def next(self) -> Outcome:
        return self._inner.next()

    def pending(self) -> int:
        return self._inner.pending()

    def close(self) -> None:
        self._inner.close()


def start(
    config: RunConfig,
    directory: Path | str,
    *,
    problem: Problem | None = None,
    observer: Observer | None = None,
) -> Progress:
    """Start a search and run it to its end.

    Raises:
        ConfigError, PluginError: the configuration names what there is not.
        StoreError: the directory holds a run already, or cannot be written.
    """
    session = Session(config, problem)
    session.rehearse()
    with Store.create(directory, session.header()) as store, session.executor() as executor:
        return session.engine(store, observer).run(executor)


def resume(
    directory: Path | str,
    *,
    problem: Problem | None = None,
    observer: Observer | None = None,
    executor: Mapping[str, Any] | None = None,
    allow_changes: bool = False,
) -> Progress:
    """Go on with a run where its log ends.

    Args:
        directory: the run.
        problem: the user's own problem, for a run that was started with one.
        observer: called after each event.
        executor: keys of the ``executor`` section to change; the log does not depend on them.
        allow_changes: go on although versions or data differ from those the run was started with.

    Raises:
        StoreError: there is no such run, another process has it open, or versions or data differ.
    """
    with Store.open(directory) as store:
        session = opened(store, problem, executor)
        _require_problem(store, problem)
        if not allow_changes:
            _refuse_changes(store.header, session.header())
        session.rehearse()
        with session.executor() as workers:
            return session.engine(store, observer).run(workers)


def opened(
    store: Store, problem: Problem | None = None, executor: Mapping[str, Any] | None = None
) -> Session:
    """The session of a run's own configuration."""
    config = dict(store.header["config"])
    config["executor"] = {**config["executor"], **(executor or {})}
    return Session(check_config(config, "the run's configuration"), problem)


def _require_problem(store: Store, problem: Problem | None) -> None:
    if problem is None and store.header.get("problem") == "the user's own":
        raise ConfigError(
            "this run was started with data or networks of the user's own, which no log can hold; "
            "call it from Python with the same ones"
        )


def _refuse_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [
        f"{key} {then.get(key)!r} → {now[key]!r}"
        for key in ("format", "data", "models")
        if then.get(key) != now[key]
    ]
    versions = then["versions"]
    changed += [f"{k} {versions.get(k)} → {v}" for k, v in now["versions"].items() if versions.get(k) != v]
    if changed:
        raise StoreError(
            f"the run was started under other conditions: {'; '.join(changed)}. Its log would mix two; "
            "go on all the same with --allow-changes"
        )


def verify(directory: Path | str, *, rerun: int = 0, problem: Problem | None = None) -> dict[str, int]:
    """Replay a run's log: the digest chain, every proposal, and on request some evaluations again.

    Returns:
        How many events, proposals and evaluations were checked.

    Raises:
        StoreError: names the first thing that does not hold.
    """
    with Store.open(directory, read_only=True) as store:
        session = opened(store, problem)
        engine = session.engine(store)
        proposals = engine.verify()
        if rerun:
            _require_problem(store, problem)
        again = _rerun(session, engine, rerun)
        return {"events": store.count(), "proposals": proposals, "evaluations": again}


def _rerun(session: Session, engine: Engine, count: int) -> int:
    """Evaluate the first candidates again; those that crashed or took too long need not do so twice."""
    outcomes = engine.progress.outcomes
    done = [one for one in engine.progress.history if outcomes[one.id]["gate"] != FAILURE][:count]
    with SerialExecutor(session.evaluator.evaluate) as executor:
        for number, one in enumerate(done):
            graph = to_json(session.space.express(one.genome))
            executor.submit(Job(number, Request(graph, search_seed(session.config.seed))))
            result = result_payload(executor.next())
            if result != outcomes[one.id]:
                raise StoreError(
                    f"candidate {one.id} evaluates to {result} now; the log says {outcomes[one.id]}"
                )
    return len(done)


def confirm(
    directory: Path | str,
    *,
    top: int = 1,
    seeds: int = 5,
    report: Callable[[str, int], None] | None = None,
    problem: Problem | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Train the best candidates and the baselines again, with seeds no one saw, and score held-out data.

    Returns:
        Scores by name, seed and architecture.

    Raises:
        StoreError: the run has no candidate with a score.
        ConfigError: the run was started with a problem of the user's own, and none is given.
    """
    with Store.open(directory, read_only=True) as store:
        session = opened(store, problem)
        _require_problem(store, problem)
        engine = session.engine(store)
        for event in store.events():
            engine.progress.apply(event)
    best = ranked(engine.progress)[:top]
    if not best:
        raise StoreError(f"run {str(directory)!r} has no candidate with a score yet; resume it first")
    graphs = {
        id: session.space.express(engine.progress.individual(id).genome) for id in best
    } | session.baselines
    chosen = [training_seed(session.config.seed, "confirm", k) for k in range(seeds)]
    scores: dict[str, dict[str, dict[str, float]]] = {}
    with session.executor() as workers:
        work = [(name, seed) for name in graphs for seed in chosen]
        for number, (name, seed) in enumerate(work):
            request = Request(to_json(graphs[name]), seed, gated=False, split="held_out")
            workers.submit(Job(number, request))
        for _ in work:
            outcome = workers.next()
            name, seed = work[outcome.id]
            value = outcome.value
            scores.setdefault(name, {})[str(seed)] = (
                dict(value.scores) if isinstance(value, Evaluation) else {}
            )
            if report is not None:
                report(name, seed)
    return {name: dict(sorted(scores[name].items(), key=lambda item: int(item[0]))) for name in graphs}


def ranked(progress: Progress) -> list[str]:
    """Candidate ids, best first: by the final comparison where they were in it, then by search score."""

    def final(id: str) -> float:
        runs = [fitness(scores) for scores in progress.finals.get(id, {}).values()]
        return sum(runs) / len(runs) if runs else float("-inf")

    scored = [one for one in progress.history if one.scores]
    return [one.id for one in sorted(scored, key=lambda one: (-final(one.id), -one.fitness))]
