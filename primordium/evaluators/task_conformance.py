"""What a task must do before anyone trains on it: part of ``primordium plugins check``.

``check_task`` gives a list of sentences, each led by the name of the check that failed; the list of a sound
task is empty.
"""

import math
import pickle
from collections.abc import Iterator
from copy import deepcopy
from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from primordium.evaluators.task import SPLIT_NAMES, Split, SplitName, Task
from primordium.plugins.chance import under_global_seed
from primordium.plugins.conformance import Checks, run_checks

SIZE = 16
BATCHES = ((0, 0, 1), (0, 0, SIZE), (1, 0, SIZE), (2, 1, SIZE), (10_000, 3, SIZE))
"""Step, seed and size of the batches that are looked at."""
LEAK = 0.01
"""The share of a split that may occur in another: examples of few possible values coincide by chance."""


class _Pair(NamedTuple):
    """A task and, where there is one, the same task made a second time."""

    task: Task
    again: Task | None


def check_task(task: Task, again: Task | None = None) -> list[str]:
    """The problems of a task; an empty list where it is sound.

    Checked: finite data in splits that agree with each other and do not overlap; batches that are a pure
    function of step, seed and size; a loss that is a finite, differentiable mean; a metric that is higher
    for better outputs; a fingerprint of the data; pickling. Where the task has ``classes``, outputs are taken
    to be ``[*targets.shape, classes]``, else to be like the targets.

    Args:
        task: the task.
        again: the same task made a second time, which must hold the same data.
    """
    return run_checks(TASK_CHECKS, _Pair(task, again))


def _splits(task: Task) -> Iterator[tuple[str, Split]]:
    for name in SPLIT_NAMES:
        yield name, getattr(task, name)


# ---- data -------------------------------------------------------------------------------------------------


def _data(pair: _Pair) -> Iterator[str]:
    task = pair.task
    if not isinstance(task.name, str) or not task.name:
        yield f"the name is {task.name!r}; a text is needed"
    for name, split in _splits(task):
        if len(split.inputs) != len(split.targets) or not len(split):
            yield f"{name} has {len(split.inputs)} inputs and {len(split.targets)} targets"
        for what, tensor, first in (
            ("inputs", split.inputs, task.train.inputs),
            ("targets", split.targets, task.train.targets),
        ):
            if (tensor.shape[1:], tensor.dtype) != (first.shape[1:], first.dtype):
                yield (
                    f"{name} {what} are {list(tensor.shape[1:])} in {tensor.dtype}, "
                    f"those of train {list(first.shape[1:])} in {first.dtype}"
                )
            if not tensor.isfinite().all():
                yield f"{name} {what} are not all finite"
    yield from _facts(task)


def _facts(task: Task) -> Iterator[str]:
    """What tasks for the named models say of themselves."""
    actual = tuple(task.train.inputs.shape[1:])
    shape = getattr(task, "input_shape", actual)
    if tuple(shape) != actual:
        yield f"input_shape is {shape}, but inputs have shape {actual}"
    classes = _classes(task)
    for name, split in _splits(task) if classes is not None else ():
        low, high = int(split.targets.min()), int(split.targets.max())
        if low < 0 or high >= (classes or 0):
            yield f"{name} targets go from {low} to {high}; class numbers go from 0 to {classes} - 1"


def _disjoint(pair: _Pair) -> Iterator[str]:
    rows = {name: _rows(split.inputs) for name, split in _splits(pair.task)}
    for first, second in combinations(SPLIT_NAMES, 2):
        known = set(rows[first])
        common = sum(row in known for row in rows[second])
        if common > LEAK * len(rows[second]):
            yield f"{common} of {len(rows[second])} inputs of {second} are in {first} too"


def _rows(inputs: Tensor) -> list[bytes]:
    return [row.tobytes() for row in inputs.numpy(force=True)]


# ---- batches ----------------------------------------------------------------------------------------------


def _batches(pair: _Pair) -> Iterator[str]:
    task = pair.task

    def draw(place: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        inputs, targets = task.batch(*place)
        return inputs.clone(), targets.clone()

    first, used = under_global_seed(1, lambda: [draw(place) for place in BATCHES])
    second, _ = under_global_seed(2, lambda: [draw(place) for place in reversed(BATCHES)])
    for place, one, other in zip(BATCHES, first, reversed(second), strict=True):
        where = "step {}, seed {}, size {}".format(*place)
        if not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)):
            yield f"the batch of {where} is another the second time"
        for what, part, whole in zip(("inputs", "targets"), one, _train(task), strict=True):
            if (part.shape, part.dtype) != ((place[2], *whole.shape[1:]), whole.dtype):
                yield f"{what} of {where} are {list(part.shape)} in {part.dtype}"
    if used:
        yield f"it draws from the global generators: {', '.join(used)}"
    if len(task.train) > SIZE and all(torch.equal(first[1][0], other[0]) for other in first[2:]):
        yield "every step has the same batch"


def _train(task: Task) -> tuple[Tensor, Tensor]:
    return task.train.inputs, task.train.targets


# ---- loss and metric --------------------------------------------------------------------------------------


def _classes(task: Task) -> int | None:
    return getattr(task, "classes", None)


def _ideal(task: Task, targets: Tensor) -> Tensor:
    """The outputs of a network that is right about every example."""
    classes = _classes(task)
    return targets.double() if classes is None else 20.0 * F.one_hot(targets, classes).double()


def _poor(task: Task, targets: Tensor) -> Tensor:
    """The outputs of one that is wrong about every example."""
    classes = _classes(task)
    return _ideal(task, targets + 1 if classes is None else (targets + 1) % classes)


def _loss(pair: _Pair) -> Iterator[str]:
    task = pair.task
    _, targets = task.batch(0, 0, SIZE)
    outputs = (0.1 * _poor(task, targets)).float().requires_grad_()
    loss = task.loss(outputs, targets)
    if loss.shape != ():
        yield f"it has shape {list(loss.shape)}; a scalar is needed"
        return
    if not math.isfinite(loss.item()):
        yield f"it is {loss.item()} for finite outputs"
    if not loss.requires_grad:
        yield "it cannot be differentiated by the outputs"
        return
    (gradient,) = torch.autograd.grad(loss, outputs, allow_unused=True)
    if gradient is None or not gradient.isfinite().all():
        yield "its gradient by the outputs is not finite"
    twice = task.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    if not math.isclose(twice.item(), loss.item(), rel_tol=1e-4, abs_tol=1e-6):
        yield "it is no mean: every example twice gives another loss"
    if not task.loss(_ideal(task, targets).float(), targets).item() < loss.item():
        yield "right outputs have no lower loss than wrong ones"


def _metric(pair: _Pair) -> Iterator[str]:
    task, targets = pair.task, pair.task.validation.targets
    scores = {}
    for name, outputs in (("right", _ideal(task, targets)), ("wrong", _poor(task, targets))):
        score = scores[name] = task.metric(outputs.float(), targets)
        if not isinstance(score, float) or not math.isfinite(score):
            yield f"it is {score!r} for {name} outputs; a finite float is needed"
            return
    if not scores["right"] > scores["wrong"]:
        yield f"right outputs score {scores['right']:g}, wrong ones {scores['wrong']:g}; higher is better"
    if not scores["right"] > 0.0:
        yield f"right outputs score {scores['right']:g}, no more than a candidate that fails, which has 0"
    chance = getattr(task, "chance", None)
    if chance is not None and not 0.0 <= chance < scores["right"]:
        yield f"chance is {chance!r}; it must be from 0 to the score of right outputs, {scores['right']:g}"
    task.metric(torch.full_like(_ideal(task, targets), math.nan).float(), targets)  # must not raise


# ---- identity ---------------------------------------------------------------------------------------------


def _fingerprint(pair: _Pair) -> Iterator[str]:
    task, again = pair
    found = task.fingerprint()
    if not isinstance(found, str) or not found:
        yield f"it is {found!r}; a text is needed"
    if task.fingerprint() != found:
        yield "it is another the second time"
    if again is not None and again.fingerprint() != found:
        yield "the task made a second time holds other data"
    for name in SPLIT_NAMES:
        changed = deepcopy(task)
        if _spoil(changed, name) and changed.fingerprint() == found:
            yield f"it does not change with the data of {name}"


def _spoil(task: Task, split: SplitName) -> bool:
    """Changes one number of a split in place; whether it is still changed when the split is read again."""
    inputs: Tensor = getattr(task, split).inputs
    first = (0,) * inputs.ndim
    before = inputs[first].item()
    inputs[first] += 1
    return bool(getattr(task, split).inputs[first].item() != before)


def _pickles(pair: _Pair) -> Iterator[str]:
    task = pair.task
    copy: Task = pickle.loads(pickle.dumps(task))
    same = all(torch.equal(a, b) for a, b in zip(task.batch(0, 0, 4), copy.batch(0, 0, 4), strict=True))
    if copy.fingerprint() != task.fingerprint() or not same:
        yield "the task comes back from a pickle as another"


TASK_CHECKS: Checks[_Pair] = {
    "data": _data,
    "splits": _disjoint,
    "batch": _batches,
    "loss": _loss,
    "metric": _metric,
    "fingerprint": _fingerprint,
    "pickle": _pickles,
}
