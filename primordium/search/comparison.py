"""How far scores are apart and how sure that is; when to add seeds; whether one rung predicts the next."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from primordium.search.progress import FINAL, RUNG, Progress, fitness

Scores = Mapping[str, Mapping[str, float]]
"""Score by seed and architecture."""

LEVEL = 0.95
WEAK = 0.5
"""Below this rank correlation, what is best on the cheaper rung need not be on the dearer one."""

_GROWTH = 1.5  # seeds grow by this factor from one look to the next


def half_width(values: Sequence[float], level: float = LEVEL) -> float | None:
    """Half the width of the t-interval of a mean at a level; ``None`` below two values."""
    from scipy.special import stdtrit  # here, so that reading a log does not wait for it

    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1))
    return float(stdtrit(count - 1, 0.5 + level / 2)) * deviation / math.sqrt(count)


@dataclass(frozen=True)
class Difference:
    """How far one entry of the leaderboard is ahead of another, paired seed by seed.

    Attributes:
        mean: mean over common seeds of the difference of scores.
        interval: half the width of its interval, ``None`` below two common seeds.
        seeds: number of common seeds.
        level: the confidence of the interval.
    """

    mean: float
    interval: float | None
    seeds: int
    level: float = LEVEL

    @property
    def separated(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and abs(self.mean) > self.interval


def difference(a: Scores, b: Scores, level: float = LEVEL) -> Difference:
    """By how much ``a`` is ahead of ``b``: the same seed means the same weights and batches, so they pair."""
    values = [fitness(a[seed]) - fitness(b[seed]) for seed in a if seed in b]
    mean = sum(values) / len(values) if values else 0.0
    return Difference(mean, half_width(values, level), len(values), level)


def looks(least: int, most: int) -> tuple[int, ...]:
    """At how many seeds entries are compared: from the least to the most, each half as many again."""
    counts = [least]
    while counts[-1] < most:
        counts.append(min(most, math.ceil(counts[-1] * _GROWTH)))
    return tuple(counts)


def look_level(least: int, most: int) -> float:
    """The confidence that each look needs for 95 % over all of them (Bonferroni).

    Who looks again and again until an interval leaves out 0 will see it happen by chance.
    """
    return 1.0 - (1.0 - LEVEL) / len(looks(least, most))


def mean_score(scores: Scores) -> float:
    """Mean over seeds of the mean over architectures; 0 where there is none."""
    means = [fitness(by_model) for by_model in scores.values()]
    return sum(means) / len(means) if means else 0.0


def unsettled(scores: Mapping[str, Scores], baselines: Sequence[str], level: float) -> list[str]:
    """Entries whose difference from the best baseline is not separated from 0, and that baseline.

    Empty where every other entry that is no baseline is separated, or there is no baseline.
    """
    rivals = [name for name in baselines if name in scores]
    if not rivals:
        return []
    rival = max(rivals, key=lambda name: mean_score(scores[name]))
    open_ = [n for n in scores if n != rival and not difference(scores[n], scores[rival], level).separated]
    return [*open_, rival] if any(name not in rivals for name in open_) else []


def rank_correlation(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Spearman's correlation of two scorings over the names they share.

    ``None`` below four names, or where one scoring ties them all.
    """
    names = [name for name in before if name in after]
    a, b = [before[name] for name in names], [after[name] for name in names]
    if len(names) < 4 or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def proportion_interval(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper and Pearson 1934); the whole of [0, 1] without trials."""
    from scipy.special import betaincinv

    tail = (1.0 - level) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high


@dataclass(frozen=True)
class RungCorrelation:
    """How alike two rungs of training rank the candidates that both have trained.

    Attributes:
        before, after: the rungs, in words.
        rho: Spearman's rank correlation; ``None`` where there are too few candidates to say.
        candidates: how many both have trained; the best of the rung before, whose ranks are closer together
            than those of all.
    """

    before: str
    after: str
    rho: float | None
    candidates: int

    @property
    def weak(self) -> bool:
        """Whether the cheaper rung says little of the dearer one."""
        return self.rho is not None and self.rho < WEAK


def rung_correlations(progress: Progress) -> list[RungCorrelation]:
    """The rank correlation from the search through every rung to the comparison and its held-out scores."""
    found = {one.id: one.fitness for one in progress.best}
    rungs: list[tuple[str, Mapping[str, float]]] = [("search", found)]
    rungs += [
        (f"{stage.factor}× training", {name: mean_score(s) for name, s in stage.scores.items()})
        for stage in progress.stages_of(RUNG)
    ]
    if progress.stages_of(FINAL):
        names = [name for name, id in progress.finalists or () if id is not None]
        for what, scores in (("fresh seeds", progress.finals), ("held-out data", progress.held_out)):
            rungs.append((what, {name: mean_score(scores[name]) for name in names if name in scores}))
    pairs = []
    for (before, a), (after, b) in pairwise(rungs):
        pairs.append(RungCorrelation(before, after, rank_correlation(a, b), len(a.keys() & b.keys())))
    return pairs
