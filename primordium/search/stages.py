"""What is trained after the search: promotion through longer rungs, then the comparison with the baselines.

Each is a pure function of the run's progress. In the comparison, seeds are added to entries that are not yet
separated from the best baseline, until they are or the seeds that the configuration allows are spent.
"""

from collections.abc import Callable
from typing import Any

from primordium.search.comparison import look_level, looks, mean_score, unsettled
from primordium.search.progress import FINAL, RUNG, Progress, Stage, fitness
from primordium.search.proposer import Individual
from primordium.search.seeds import training_seed
from primordium.search.settings import Settings


def next_rung(
    progress: Progress, settings: Settings, new: Callable[[int], list[Individual]]
) -> dict[str, Any] | None:
    """The next rung of promotion; ``None`` after the last.

    Args:
        progress: the run.
        settings: its settings.
        new: gives so many of the best candidates of the search that are no known method.
    """
    done = progress.stages_of(RUNG)
    if len(done) == len(settings.rungs):
        return None
    rung = settings.rungs[len(done)]
    names = promoted(done[-1], rung.keep) if done else [one.id for one in new(rung.keep)]
    seed = training_seed(settings.seed, "rung", len(done))
    return {"stage": RUNG, "factor": rung.factor, "names": names, "seeds": [seed]}


def promoted(rung: Stage, keep: int) -> list[str]:
    """The best of a rung, the earlier first at ties."""
    (seed,) = rung.seeds
    return sorted(rung.names, key=lambda name: -fitness(rung.scores[name][str(seed)]))[:keep]


def finalists(
    progress: Progress, settings: Settings, new: Callable[[int], list[Individual]]
) -> list[dict[str, str | None]]:
    """Who is compared at the end: the best of the last rung, or of the search, and the baselines."""
    rungs = progress.stages_of(RUNG)
    best = promoted(rungs[-1], settings.finalists) if rungs else [one.id for one in new(settings.finalists)]
    entries: list[dict[str, str | None]] = [{"name": id, "candidate": id} for id in best]
    return entries + [{"name": name, "candidate": None} for name in settings.baselines]


def next_look(progress: Progress, settings: Settings) -> dict[str, Any] | None:
    """The next seeds of the comparison and who is trained with them; ``None`` when it is over."""
    counts = looks(settings.seeds, settings.most_seeds)
    done = len(progress.stages_of(FINAL))
    if done == len(counts):
        return None
    names = [name for name, _ in progress.finalists or ()]
    if done:
        level = look_level(settings.seeds, settings.most_seeds)
        open_ = unsettled(progress.finals, tuple(settings.baselines), level)
        names = [name for name in names if name in open_]
    if not names:
        return None
    first = counts[done - 1] if done else 0
    seeds = [training_seed(settings.seed, "final", k) for k in range(first, counts[done])]
    return {"stage": FINAL, "factor": settings.final_factor, "names": names, "seeds": seeds}


def ranked(progress: Progress) -> list[str]:
    """Candidate ids, best first: by the final comparison, then by the rungs of promotion, then by the search.

    Of the best of the search, which is all that anyone promotes.
    """

    def key(one: Individual) -> tuple[float, ...]:
        stages = [progress.finals, *(rung.scores for rung in reversed(progress.stages_of(RUNG)))]
        return tuple(-mean_score(s[one.id]) if one.id in s else 1.0 for s in stages)

    return [one.id for one in sorted(progress.best, key=key)]
