"""Tests of what follows the search: promotion through the rungs, and a comparison that adds seeds."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_search import (
    EVOLUTION,
    GATES,
    RICH,
    SPACE,
    Pool,
    candidates,
    dump,
    dying,
    events,
    fold,
    make,
    run,
    verify,
)

from primordium.errors import StoreError
from primordium.evaluators.evaluation import Evaluation, Request
from primordium.evaluators.executors import Job, Outcome
from primordium.primitives.identity import key
from primordium.primitives.serial import to_json
from primordium.search.comparison import look_level, unsettled
from primordium.search.engine import Engine
from primordium.search.progress import FINAL, RUNG, Progress, Stage, fitness
from primordium.search.proposer import Individual
from primordium.search.seeds import search_seed, training_seed
from primordium.search.settings import Rung, Settings
from primordium.search.stages import finalists, next_look, next_rung, promoted, ranked
from primordium.search.store import Event, Store

SHORT = replace(RICH, candidates=12, rungs=(Rung(3, 4), Rung(9, 3)))
GENOME = SPACE.random(Random(0))
BASELINES = ("bn_relu", "evonorm_s0")


class Recording(Pool):
    """An executor that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.requests: list[Request] = []

    def submit(self, job: Job) -> None:
        self.requests.append(job.payload)
        super().submit(job)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with audits, two rungs and a comparison that adds seeds; read by several tests."""
    path = tmp_path_factory.mktemp("rich") / "run"
    run(path, RICH)
    return path


# ------------------------------------------------------------------------------------------------- whole runs


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
def test_audits_and_stages_do_not_depend_on_who_is_done_first(
    tmp_path: Path, rich: Path, workers: int
) -> None:
    """With all that shapes a log turned on, any number of workers in any order writes it byte for byte."""
    expected = dump(rich)
    for seed in (1, 2):
        assert run(tmp_path / f"{seed}", RICH, executor=Pool(workers, seed)) == expected
        assert candidates(tmp_path / f"{seed}") == candidates(rich)


def test_a_rich_log_verifies(rich: Path) -> None:
    """Audits, rungs, looks and finalists come out again; the run had some of each."""
    assert verify(rich, RICH) == RICH.batches
    progress = fold(rich)
    assert progress.ended
    assert progress.audits
    assert len(progress.stages_of(RUNG)) == 2
    assert len(progress.stages_of(FINAL)) > 1


def test_a_rich_run_that_dies_anywhere_resumes_to_the_same_log(tmp_path: Path, rich: Path) -> None:
    """Every 17th moment of the whole run: in batches with audits, between stages, within them."""
    expected = dump(rich)
    moment = 0
    while dying(path := tmp_path / f"{moment}", RICH, moment):
        assert expected.startswith(dump(path))
        assert not dying(path, RICH, 10_000)
        assert dump(path) == expected
        shutil.rmtree(path)
        moment += 17
    assert candidates(path) == candidates(rich)
    assert moment > 200


def test_a_run_that_dies_anywhere_in_its_stages_resumes_to_the_same_log(tmp_path: Path) -> None:
    """Every moment after the search, from one prefix: at each submission, result and commit of each stage."""
    settings = replace(SHORT, candidates=6, most_seeds=5, baselines={"bn_relu": RICH.baselines["bn_relu"]})
    expected = run(tmp_path / "whole", settings)
    prefix = expected[: expected.index('{"kind":"stage"')]
    sent = settings.candidates + fold(tmp_path / "whole").audits_sent
    assert dying(tmp_path / "prefix", settings, 2 * (prefix.count("\n") + sent))
    assert dump(tmp_path / "prefix") == prefix
    moment, died = 0, True
    while died:
        path = tmp_path / f"{moment}"
        shutil.copytree(tmp_path / "prefix", path)
        died = dying(path, settings, moment)
        assert expected.startswith(dump(path))
        assert not dying(path, settings, 10_000)
        assert dump(path) == expected
        moment += 1
    stages = fold(tmp_path / "whole").stages
    assert len(stages) == 4
    trained = sum(len(stage.names) * len(stage.seeds) for stage in stages)
    assert moment - 1 == 2 * (expected.count("\n") - prefix.count("\n") + trained)


def test_a_rich_run_that_dies_again_and_again_gets_there(tmp_path: Path) -> None:
    """Stages make headway entry by entry: a driver that is killed every few moments still ends the run."""
    expected = run(tmp_path / "whole", SHORT)
    deaths = 0
    while dying(tmp_path / "run", SHORT, 10 + deaths % 40):
        deaths += 1
        assert expected.startswith(dump(tmp_path / "run"))
    assert deaths > 5
    assert dump(tmp_path / "run") == expected


def test_what_a_stage_has_done_is_not_done_again(tmp_path: Path) -> None:
    """A resumed stage sends out the entries that wait, with all their seeds, and nothing else."""
    expected = run(tmp_path / "whole", SHORT)
    log = events(tmp_path / "whole")
    first = next(event.seq for event in log if event.kind == "stage")
    for end in (first + 3, len(log) - 4):
        with Store.create(tmp_path / f"{end}", {}) as store:
            store.append(log[:end])
            store.append([], candidates(tmp_path / "whole"))
        stages = fold(tmp_path / f"{end}").stages
        waiting = len(stages[-1].waiting) * len(stages[-1].seeds)
        assert 0 < waiting < len(stages[-1].names) * len(stages[-1].seeds)
        later = fold(tmp_path / "whole").stages[len(stages) :]
        executor = Recording()
        with Store.open(tmp_path / f"{end}") as store:
            make(store, SHORT).run(executor)
        assert len(executor.requests) == waiting + sum(len(s.names) * len(s.seeds) for s in later)
        assert dump(tmp_path / f"{end}") == expected


def test_forged_stages_are_named(tmp_path: Path) -> None:
    """Who was promoted, with which seeds and how long, and how many looks there were: all of it follows."""
    run(tmp_path / "run", SHORT)
    log = events(tmp_path / "run")
    stages = [event.seq for event in log if event.kind == "stage"]
    changes: list[tuple[int, str, Any]] = [
        (stages[0], "names", ["c00000"]),
        (stages[1], "factor", 3),
        (stages[1], "stage", "final"),
        (stages[-1], "seeds", [1, 2]),
    ]
    for number, (place, name, value) in enumerate(changes):
        forged = [
            replace(event, payload={**event.payload, name: value}) if event.seq == place else event
            for event in log
        ]
        with Store.create(tmp_path / f"{number}", {}) as store:
            store.append(forged)
            store.append([], candidates(tmp_path / "run"))
        with pytest.raises(StoreError, match=rf"event {place} \('stage'\) comes out different in {name};"):
            verify(tmp_path / f"{number}", SHORT)


# -------------------------------------------------------------------------------------------------- promotion


def best_of(scores: Mapping[str, Mapping[str, Mapping[str, float]]], count: int) -> list[str]:
    """The best by mean over architectures, with one seed; written apart from the package."""
    means = {}
    for place, (name, by_seed) in enumerate(scores.items()):
        (values,) = (list(by_model.values()) for by_model in by_seed.values())
        means[name] = (-sum(values) / max(1, len(values)), place)
    return sorted(means, key=lambda name: means[name])[:count]


def test_each_rung_takes_the_best_of_the_one_before(rich: Path) -> None:
    """From the search by fitness, from a rung by its own scores, and the comparison from the last rung."""
    progress = fold(rich)
    first, second = progress.stages_of(RUNG)
    rows = [row for row in candidates(rich) if row.fitness is not None]
    rows.sort(key=lambda row: (-(row.fitness or 0.0), row.id))
    assert list(first.names) == [row.id for row in rows[:5]]
    assert list(second.names) == best_of(first.scores, 3)
    chosen = [name for name, id in progress.finalists or () if id is not None]
    assert chosen == best_of(second.scores, 2)
    assert [name for name, id in progress.finalists or () if id is None] == list(RICH.baselines)
    assert chosen != list(second.names[:2]) or list(second.names) != list(first.names[:3])


def test_stages_are_trained_as_long_and_with_the_seeds_that_the_log_says(tmp_path: Path, rich: Path) -> None:
    """Rungs multiply the steps and have a seed each; the comparison has those of the last rung, and more."""
    executor = Recording()
    run(tmp_path / "run", RICH, executor=executor)
    requests = [r for r in executor.requests if not r.gated and r.seed != search_seed(RICH.seed)]
    with Store.open(rich, read_only=True) as store:
        engine = Engine(RICH, EVOLUTION, GATES, SPACE.express, store)
        for event in store.events():
            engine.progress.apply(event)
        expected = [
            Request(
                to_json(engine.graph(name)),
                seed,
                gated=False,
                factor=stage.factor,
                held_out=stage.kind == FINAL,
            )
            for stage in engine.progress.stages
            for name in stage.names
            for seed in stage.seeds
        ]
        stages = engine.progress.stages
    assert requests == expected
    assert [stage.factor for stage in stages] == [3, 9] + [9] * (len(stages) - 2)
    seeds = [training_seed(RICH.seed, "rung", 0), training_seed(RICH.seed, "rung", 1)]
    seeds += [training_seed(RICH.seed, "final", number) for number in range(7)]
    assert [seed for stage in stages for seed in stage.seeds] == seeds
    assert len({search_seed(RICH.seed), *seeds}) == 10


def test_no_known_method_is_promoted(tmp_path: Path, rich: Path) -> None:
    """What behaves like a known method leaves its place in the first rung to the next best."""
    progress = fold(rich)
    known = {key(SPACE.express(progress.best[place].genome)) for place in (0, 2)}
    with Store.create(tmp_path / "run", {}) as store:
        engine = Engine(RICH, EVOLUTION, GATES, SPACE.express, store, known=lambda graph: key(graph) in known)
        engine.run(Pool())
    rung = fold(tmp_path / "run").stages_of(RUNG)[0]
    assert list(rung.names) == [progress.best[place].id for place in (1, 3, 4, 5, 6)]


def stage(kind: str, scores: Mapping[str, float], seed: int = 3) -> Stage:
    """A stage that is done, with one seed and one architecture; below 0 for an evaluation that failed."""
    by_seed = {name: {str(seed): {"a": s} if s >= 0 else {}} for name, s in scores.items()}
    return Stage(kind, 3, tuple(scores), (seed,), by_seed)


def test_promotion_keeps_the_order_at_ties_and_puts_failures_last() -> None:
    """An evaluation that failed has not shown anything; a tie is decided by the rung before."""
    rung = stage(RUNG, {"c2": 0.5, "c9": 0.7, "c1": 0.5, "c7": -1.0, "c4": 0.1})
    assert [promoted(rung, keep) for keep in (1, 2, 3, 4, 9)] == [
        ["c9"],
        ["c9", "c2"],
        ["c9", "c2", "c1"],
        ["c9", "c2", "c1", "c4"],
        ["c9", "c2", "c1", "c4", "c7"],
    ]


def test_each_of_many_rungs_follows_the_one_before() -> None:
    """The third rung takes the best of the second, whatever they were in the first."""
    settings = replace(RICH, rungs=(Rung(2, 4), Rung(4, 3), Rung(8, 2)))
    progress = Progress()
    progress.stages = [
        stage(RUNG, {"c1": 0.9, "c2": 0.8, "c3": 0.7, "c4": 0.6}),
        stage(RUNG, {"c1": 0.1, "c2": 0.2, "c3": 0.3}),
    ]
    payload = next_rung(progress, settings, lambda count: [])
    assert payload is not None
    assert (payload["factor"], payload["names"]) == (8, ["c3", "c2"])
    progress.stages.append(stage(RUNG, {"c3": 0.1, "c2": 0.2}))
    assert next_rung(progress, settings, lambda count: []) is None
    assert [entry["name"] for entry in finalists(progress, settings, lambda count: [])][:2] == ["c2", "c3"]


def test_without_rungs_finalists_come_from_the_search() -> None:
    """There is no stage before the comparison, and its steps are those of the search."""
    settings = replace(RICH, rungs=())
    asked: list[int] = []

    def new(count: int) -> list[Individual]:
        asked.append(count)
        return [Individual(f"c0000{n}", GENOME, {"a": 0.5}, 0.5) for n in range(count)]

    assert next_rung(Progress(), settings, new) is None
    entries = finalists(Progress(), settings, new)
    assert [entry["name"] for entry in entries] == ["c00000", "c00001", *RICH.baselines]
    assert asked == [2]
    assert settings.final_factor == 1


def test_a_search_that_found_nothing_still_compares_the_baselines() -> None:
    """Empty rungs promote nobody and end."""
    progress = Progress()
    for event in ("first", "second"):
        payload = next_rung(progress, RICH, lambda count: [])
        assert payload is not None, event
        assert payload["names"] == []
        progress.apply(Event(progress.events, "stage", payload, {}))
    assert next_rung(progress, RICH, lambda count: []) is None
    entries = finalists(progress, RICH, lambda count: [])
    assert entries == [{"name": name, "candidate": None} for name in RICH.baselines]


# --------------------------------------------------------------------------------------------- the comparison

Scores = Callable[[str, int], float]
"""Score of an entry with the seed of that number."""


def compare(settings: Settings, names: Sequence[str], scores: Scores) -> Progress:
    """A comparison of entries whose scores are known beforehand."""
    progress = Progress()
    numbers = {training_seed(settings.seed, "final", k): k for k in range(settings.most_seeds)}

    def apply(kind: str, payload: Mapping[str, Any]) -> None:
        progress.apply(Event(progress.events, kind, payload, {}))

    entries = [{"name": n, "candidate": None if n in settings.baselines else n} for n in names]
    apply("finalists", {"entries": entries})
    while (look := next_look(progress, settings)) is not None:
        assert set(look["names"]) <= set(names)
        apply("stage", look)
        for name in look["names"]:
            found = {str(seed): {"a": scores(name, numbers[seed])} for seed in look["seeds"]}
            apply("scored", {"name": name, "scores": found, "held_out": {}})
    return progress


def seeds_of(progress: Progress) -> dict[str, int]:
    """With how many seeds each entry was trained."""
    return {name: len(scores) for name, scores in progress.finals.items()}


ENTRIES = ("c00001", "c00002", *BASELINES)
SETTINGS = replace(RICH, seeds=3, most_seeds=8)


def spread(means: Mapping[str, float], noise: float = 0.01) -> Scores:
    """Scores around a mean, with noise of each entry's own."""
    return lambda name, seed: means[name] + noise * Random(f"{name} {seed}").uniform(-1, 1)


def test_entries_that_are_separated_get_no_more_seeds() -> None:
    """With everything far apart, the comparison costs the least that the configuration asks for."""
    means = {"c00001": 0.9, "c00002": 0.2, "bn_relu": 0.5, "evonorm_s0": 0.7}
    assert seeds_of(compare(SETTINGS, ENTRIES, spread(means, 0.001))) == dict.fromkeys(ENTRIES, 3)


def test_only_what_is_unsettled_gets_more_seeds_and_the_baseline_with_it() -> None:
    """One entry is close to the best baseline: both get all seeds, the others do not."""
    means = {"c00001": 0.9, "c00002": 0.7, "bn_relu": 0.5, "evonorm_s0": 0.7}
    progress = compare(SETTINGS, ENTRIES, spread(means, 0.001))
    assert seeds_of(progress) == {"c00001": 3, "c00002": 8, "bn_relu": 3, "evonorm_s0": 8}
    assert [stage.names for stage in progress.stages] == [ENTRIES, *[("c00002", "evonorm_s0")] * 2]
    assert [len(stage.seeds) for stage in progress.stages] == [3, 2, 3]


@pytest.mark.parametrize(("noise", "seeds"), [(0.001, 3), (0.004, 5), (0.02, 8)])
def test_seeds_end_when_the_interval_leaves_out_zero(noise: float, seeds: int) -> None:
    """The noisier the difference, the more seeds it takes, up to all that are allowed."""

    def scores(name: str, seed: int) -> float:
        return 0.7 if name == "bn_relu" else 0.71 + noise * (-1) ** seed

    assert set(seeds_of(compare(SETTINGS, ("c00001", "bn_relu"), scores)).values()) == {seeds}


def test_baselines_that_are_alike_cost_no_seeds() -> None:
    """What is to be settled is whether a candidate differs; two baselines may stay as close as they are."""
    means = {"c00001": 0.9, "c00002": 0.2, "bn_relu": 0.7, "evonorm_s0": 0.7}
    assert seeds_of(compare(SETTINGS, ENTRIES, spread(means, 0.001))) == dict.fromkeys(ENTRIES, 3)


@pytest.mark.parametrize("seed", range(6))
def test_a_comparison_ends_when_all_is_settled_or_all_seeds_are_spent(seed: int) -> None:
    """And before each further look there was an unsettled candidate; those and no others are in it."""
    random = Random(seed)
    means = {name: 0.5 + 0.02 * random.random() for name in ENTRIES}
    settings = replace(SETTINGS, most_seeds=random.choice([5, 8, 12]))
    progress = compare(settings, ENTRIES, spread(means, 0.02))
    level = look_level(settings.seeds, settings.most_seeds)
    stages, progress.stages = progress.stages, []
    for number, found in enumerate(stages):
        if number:
            assert set(found.names) == set(unsettled(progress.finals, BASELINES, level))
            assert any(name not in BASELINES for name in found.names)
        assert found.names == tuple(name for name in ENTRIES if name in found.names)
        progress.stages.append(found)
    spent = sum(len(found.seeds) for found in stages)
    assert not unsettled(progress.finals, BASELINES, level) or spent == settings.most_seeds


def test_entries_of_a_look_share_its_seeds() -> None:
    """Differences are paired: whoever is compared was trained with the same weights and batches."""
    progress = compare(SETTINGS, ENTRIES, spread(dict.fromkeys(ENTRIES, 0.5)))
    assert [len(stage.seeds) for stage in progress.stages] == [3, 2, 3]
    seeds = [str(training_seed(SETTINGS.seed, "final", number)) for number in range(8)]
    assert len(set(seeds)) == 8
    for scores in progress.finals.values():
        assert list(scores) == seeds


@pytest.mark.parametrize("names", [("c00001", "c00002"), BASELINES, ()])
def test_without_candidates_or_baselines_there_is_nothing_to_settle(names: tuple[str, ...]) -> None:
    """One look, or none without entries, whatever seeds are left."""
    progress = compare(SETTINGS, names, spread(dict.fromkeys(ENTRIES, 0.5)))
    assert seeds_of(progress) == dict.fromkeys(names, 3)
    assert len(progress.stages) == bool(names)


# ---------------------------------------------------------------------------------------------- held-out data


class Blind(Pool):
    """An executor whose held-out scores are others than those of the runs it is compared with."""

    def next(self) -> Outcome:
        outcome = super().next()
        value = outcome.value
        if not isinstance(value, Evaluation) or not value.held_out:
            return outcome
        return replace(outcome, value=replace(value, held_out={"a": self.random.random()}))


def test_nothing_is_chosen_by_held_out_scores(tmp_path: Path, rich: Path) -> None:
    """With all of them different, promotion, seeds, finalists and ranks are the same, event by event."""
    run(tmp_path / "run", RICH, executor=Blind())

    def seen(path: Path) -> list[tuple[str, dict[str, Any]]]:
        return [(e.kind, {n: v for n, v in e.payload.items() if n != "held_out"}) for e in events(path)]

    assert seen(tmp_path / "run") == seen(rich)
    blind, progress = fold(tmp_path / "run"), fold(rich)
    assert blind.held_out != progress.held_out
    assert ranked(blind) == ranked(progress)
    assert candidates(tmp_path / "run") == candidates(rich)


def test_held_out_scores_are_of_the_comparison_alone(rich: Path) -> None:
    """Neither the search nor a rung looks at them; every entry and seed of the comparison has them."""
    for event in events(rich, "result"):
        assert all("held_out" not in r for r in [*event.payload["results"], *event.payload["audits"]])
    progress = fold(rich)
    for rung in progress.stages_of(RUNG):
        assert all(by_model == {} for found in rung.held_out.values() for by_model in found.values())
    assert progress.finals.keys() == progress.held_out.keys()
    for name, scores in progress.finals.items():
        found = progress.held_out[name]
        assert found.keys() == scores.keys()
        assert all(bool(found[seed]) == bool(scores[seed]) for seed in scores)
    assert any(by_model for found in progress.held_out.values() for by_model in found.values())


# -------------------------------------------------------------------------------------------------- the ranks


def test_ranks_are_by_the_dearest_training_that_a_candidate_has_had() -> None:
    """The comparison before the rungs, a later rung before an earlier one, then the search."""
    progress = Progress()
    progress.best = [Individual(f"c{n}", GENOME, {"a": 1 - n / 10}, 1 - n / 10) for n in range(6)]
    assert ranked(progress) == ["c0", "c1", "c2", "c3", "c4", "c5"]
    progress.stages.append(stage(RUNG, {"c0": 0.1, "c1": 0.4, "c2": 0.2, "c3": 0.3}))
    assert ranked(progress) == ["c1", "c3", "c2", "c0", "c4", "c5"]
    progress.stages.append(stage(RUNG, {"c1": 0.2, "c3": 0.6, "c2": 0.8}))
    assert ranked(progress) == ["c2", "c3", "c1", "c0", "c4", "c5"]
    progress.stages.append(stage(FINAL, {"c2": 0.3, "c3": 0.5, "bn_relu": 0.9}))
    assert ranked(progress) == ["c3", "c2", "c1", "c0", "c4", "c5"]
    progress.stages.append(stage(FINAL, {"c2": 0.9}, seed=4))
    assert ranked(progress) == ["c2", "c3", "c1", "c0", "c4", "c5"]
    progress.stages[0].scores["c5"] = {"3": {}}
    assert ranked(progress) == ["c2", "c3", "c1", "c0", "c5", "c4"]


def test_the_ranks_of_a_run_hold_every_one_of_its_best_once(rich: Path) -> None:
    """Finalists first, by their mean over seeds; then the others of the last rung, and so on."""
    progress = fold(rich)
    order = ranked(progress)
    assert sorted(order) == sorted(one.id for one in progress.best)
    first, second = (set(rung.names) for rung in progress.stages_of(RUNG))
    final = {name for name, id in progress.finalists or () if id is not None}
    assert set(order[:2]) == final
    assert set(order[:3]) == second
    assert set(order[:5]) == first
    means = [
        sum(fitness(s) for s in progress.finals[id].values()) / len(progress.finals[id]) for id in order[:2]
    ]
    assert means[0] >= means[1]
    assert order[5:] == [one.id for one in progress.best if one.id not in first]
