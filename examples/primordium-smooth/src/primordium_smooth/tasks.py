"""A task: data in three splits, a loss and a metric, made from its arguments alone, which are its options.

Yours: inputs [N, ...] and targets [N], made or read from a file. Any class with the members of
``primordium.evaluators.task.Task`` is a task.
"""

import numpy as np

from primordium.evaluators.task import ClassificationTask


def smooth_spirals(
    classes: int = 3, per_class: int = 200, noise: float = 0.2, seed: int = 0
) -> ClassificationTask:
    """Points [N, 2] on interleaved spirals, one a class (after Lang and Witbrock, 1988)."""
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(classes), per_class)
    radius = np.tile(np.linspace(0.1, 1.0, per_class), classes)
    angle = 2.0 * np.pi * (targets / classes + radius) + random.normal(0.0, noise, len(targets))
    points = radius * np.stack([np.cos(angle), np.sin(angle)])
    return ClassificationTask.from_arrays("smooth_spirals", points.T / points.std(), targets, seed=seed)
