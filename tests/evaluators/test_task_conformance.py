"""Sound tasks pass; each kind of unsound one is caught by the check that is for it."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from primordium.evaluators.digits import digits
from primordium.evaluators.task import SPLIT_NAMES, ClassificationTask, Split, Task
from primordium.evaluators.task_conformance import check_task


def blobs(seed: int = 0, **fields: Any) -> ClassificationTask:
    """Three clouds of points in the plane."""
    targets = torch.arange(90) % 3
    noise = torch.randn(90, 2, generator=torch.Generator().manual_seed(seed))
    task = ClassificationTask.from_arrays("blobs", noise + targets[:, None], targets)
    return replace(task, **fields)


def failed(problems: list[str]) -> set[str]:
    """The names of the checks that failed."""
    return {problem.split(":")[0] for problem in problems}


class Altered:
    """A task with some members replaced."""

    def __init__(self, **members: Any) -> None:
        self._members = members

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._members[name] if name in self._members else getattr(blobs(), name)


def altered(**members: Any) -> Any:
    """See :class:`Altered`."""
    return Altered(**members)


def scaled(outputs: Tensor, targets: Tensor) -> Tensor:
    """A sum where a mean is wanted."""
    return F.cross_entropy(outputs, targets, reduction="sum")


def each(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss for each example."""
    return F.cross_entropy(outputs, targets, reduction="none")


def cut(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss without a gradient."""
    return F.cross_entropy(outputs.detach(), targets)


def rising(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that is lower for wrong outputs."""
    return 10.0 - F.cross_entropy(outputs, targets)


def infinite(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that overflows."""
    return F.cross_entropy(outputs, targets) * math.inf


def error_rate(outputs: Tensor, targets: Tensor) -> float:
    """Lower is better."""
    return float((outputs.argmax(1) != targets).float().mean())


def negative_error(outputs: Tensor, targets: Tensor) -> float:
    """Higher is better, and the best is what a failed candidate has."""
    return -error_rate(outputs, targets)


def as_tensor(outputs: Tensor, targets: Tensor) -> Any:
    """A number that JSON cannot hold."""
    return (outputs.argmax(1) == targets).float().mean()


def easily_upset(outputs: Tensor, targets: Tensor) -> float:
    """Raises where a network has diverged."""
    if not outputs.isfinite().all():
        raise ValueError("not finite")
    return 1.0 - error_rate(outputs, targets)


@dataclass(frozen=True, eq=False)
class Regression:
    """y = sin x: a task without classes, whose outputs are like its targets."""

    name: str = "sine"

    def _split(self, first: float) -> Split:
        x = torch.linspace(first, first + 3.0, 60)[:, None]
        return Split(x, torch.sin(x))

    @property
    def train(self) -> Split:
        return self._split(0.0)

    @property
    def validation(self) -> Split:
        return self._split(0.011)

    @property
    def held_out(self) -> Split:
        return self._split(0.023)

    def loss(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return F.mse_loss(outputs, targets)

    def metric(self, outputs: Tensor, targets: Tensor, /) -> float:
        return 1.0 / (1.0 + F.mse_loss(outputs, targets).item())

    def batch(self, step: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1000 * seed + step)
        chosen = torch.randint(len(self.train), (size,), generator=generator)
        return self.train.inputs[chosen], self.train.targets[chosen]

    def fingerprint(self) -> str:
        return "sine from 0"


@pytest.mark.parametrize("task", [blobs(), digits(), Regression()], ids=lambda task: task.name)
def test_sound_tasks_pass(task: Task) -> None:
    """Ours do, and so does a stranger's that shares no code with them and has no classes."""
    assert check_task(task, task) == []


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (scaled, "it is no mean"),
        (each, "a scalar is needed"),
        (cut, "cannot be differentiated"),
        (rising, "no lower loss"),
        (infinite, "it is inf for finite outputs"),
    ],
)
def test_a_wrong_loss_is_caught(loss: Any, reason: str) -> None:
    """A sum, a vector, a constant, one that rises, one that overflows."""
    problems = check_task(blobs(loss=loss))
    assert failed(problems) == {"loss"}
    assert reason in "; ".join(problems)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (error_rate, "higher is better"),
        (negative_error, "no more than a candidate that fails"),
        (as_tensor, "a finite float is needed"),
        (easily_upset, "ValueError: not finite"),
    ],
)
def test_a_wrong_metric_is_caught(metric: Any, reason: str) -> None:
    """The wrong way round, below zero, of a wrong type, upset by what networks do."""
    problems = check_task(blobs(metric=metric))
    assert failed(problems) == {"metric"}
    assert reason in problems[0]


def test_a_chance_that_cannot_be_is_caught() -> None:
    """The quality gate multiplies it."""
    assert failed(check_task(altered(chance=1.0))) == {"metric"}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"name": 3}, "the name is 3"),
        ({"input_shape": (3,)}, "input_shape is (3,), but inputs have shape (2,)"),
        ({"classes": 2}, "class numbers go from 0 to 2 - 1"),
        (
            {"train": Split(torch.full((40, 2), math.nan), torch.arange(40) % 3)},
            "train inputs are not all finite",
        ),
        ({"held_out": Split(torch.randn(9, 5), torch.arange(9) % 3)}, "held_out inputs are [5]"),
        ({"held_out": Split(torch.randn(9, 2).double(), torch.arange(9) % 3)}, "in torch.float64"),
        ({"validation": Split(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))}, "has 0 inputs"),
    ],
)
def test_facts_that_disagree_are_caught(members: dict[str, Any], reason: str) -> None:
    """What a task says of itself is what its data are."""
    problems = check_task(altered(**members))
    assert any(problem.startswith("data: ") and reason in problem for problem in problems)


def test_an_example_in_two_splits_is_caught() -> None:
    """The final word on a winner may not be one it was trained on."""
    task = blobs()
    problems = check_task(replace(task, held_out=task.train))
    assert problems == [f"splits: {len(task.train)} of {len(task.train)} inputs of held_out are in train too"]


class Counter:
    """A batch that depends on how often it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return blobs().batch(step + self.calls, seed, size)


def from_global(step: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """A batch by torch's own dice."""
    chosen = torch.randint(len(blobs().train), (size,))
    return blobs().train.inputs[chosen], blobs().train.targets[chosen]


def constant(step: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """A batch that never changes."""
    return blobs().batch(0, 0, size)


def ragged(step: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """A batch that stops at the end of an epoch."""
    inputs, targets = blobs().batch(step, seed, size)
    return inputs[: 20 - step], targets[: 20 - step]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (Counter(), "is another the second time"),
        (from_global, "it draws from the global generators: torch"),
        (constant, "every step has the same batch"),
        (ragged, "inputs of step 10000, seed 3, size 16 are [0, 2]"),
    ],
    ids=["counter", "global", "constant", "ragged"],
)
def test_a_batch_that_is_no_function_of_its_arguments_is_caught(batch: Any, reason: str) -> None:
    """Every candidate must meet the same batches, after a resume as well."""
    problems = check_task(altered(batch=batch))
    assert any(problem.startswith("batch: ") and reason in problem for problem in problems)


def test_other_data_the_second_time_are_caught() -> None:
    """A resumed run must find the data that it began with."""
    problems = check_task(blobs(0), blobs(1))
    assert problems == ["fingerprint: the task made a second time holds other data"]


class Fixed(ClassificationTask):
    """A task whose fingerprint knows nothing of the data."""

    def fingerprint(self) -> str:
        """Always the same."""
        return "version 1"


def test_a_fingerprint_that_ignores_the_data_is_caught() -> None:
    """Else a run could go on with other data."""
    task = blobs()
    problems = check_task(Fixed("fixed", task.train, task.validation, task.held_out, 3))
    assert problems == [f"fingerprint: it does not change with the data of {split}" for split in SPLIT_NAMES]


def test_a_task_that_does_not_pickle_is_caught() -> None:
    """It may have to travel to where it is trained on."""
    problems = check_task(blobs(loss=lambda outputs, targets: F.cross_entropy(outputs, targets)))
    assert failed(problems) == {"pickle"}
