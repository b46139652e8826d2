"""The contract of a task: splits, batches, metric, fingerprint, and errors for data that cannot be used."""

import pickle
import warnings
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from primordium.errors import ConfigError
from primordium.evaluators.task import ClassificationTask, Split, Task, accuracy, stratified_split


def make_arrays(count: int = 60, classes: int = 3) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Inputs [count, 2] whose first column numbers the examples, and targets that go round the classes."""
    inputs = np.stack([np.arange(count), np.ones(count)], axis=1).astype(np.float64)
    return inputs, np.arange(count, dtype=np.int64) % classes


def example_numbers(inputs: Tensor) -> list[int]:
    """The numbers that `make_arrays` gave to examples."""
    return [int(number) for number in inputs[:, 0]]


@given(
    counts=st.lists(st.integers(3, 40), min_size=1, max_size=5),
    weights=st.lists(st.integers(1, 50), min_size=3, max_size=3),
    seed=st.integers(0, 5),
)
def test_split_is_a_stratified_partition(counts: list[int], weights: list[int], seed: int) -> None:
    """Protects that every example is in one part, and every class in every part in proportion."""
    targets = np.repeat(np.arange(len(counts)), counts)
    fractions = [weight / sum(weights) for weight in weights]
    parts = stratified_split(targets, fractions, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(targets)))
    for part, fraction in zip(parts, fractions, strict=True):
        found = np.bincount(targets[part], minlength=len(counts))
        assert (found >= 1).all()
        roomy = np.array(counts) * min(fractions) >= 1
        assert (np.abs(found - fraction * np.array(counts))[roomy] <= 1).all()


def test_split_depends_on_seed_alone() -> None:
    """Protects that a split is repeatable and that the seed does choose it."""
    targets = np.arange(90) % 3
    first, again, other = (stratified_split(targets, (0.5, 0.5), seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_from_arrays_keeps_inputs_and_targets_together() -> None:
    """Protects that an example keeps its own target and is converted, not changed."""
    inputs, targets = make_arrays()
    task = ClassificationTask.from_arrays("mine", inputs, targets)
    numbers: list[int] = []
    for split in (task.train, task.validation, task.held_out):
        assert split.inputs.dtype == torch.float32
        assert [number % 3 for number in example_numbers(split.inputs)] == split.targets.tolist()
        numbers += example_numbers(split.inputs)
    assert sorted(numbers) == list(range(60))
    assert (len(task.train), len(task.validation), len(task.held_out)) == (36, 12, 12)
    assert (task.input_shape, task.classes) == ((2,), 3)


def test_from_arrays_takes_tensors() -> None:
    """Protects that tensors and arrays of the same data make the same task."""
    inputs, targets = make_arrays()
    from_tensors = ClassificationTask.from_arrays("a", torch.from_numpy(inputs), torch.from_numpy(targets))
    assert from_tensors.fingerprint() == ClassificationTask.from_arrays("a", inputs, targets).fingerprint()


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_a_pickled_split_holds_the_same_examples(dtype: torch.dtype, protocol: int) -> None:
    """Protects what is sent to workers, also views of larger data, of types that NumPy has or has not."""
    data = torch.arange(60).reshape(10, 6).to(dtype)
    split = Split(data[:, ::2], torch.arange(10))
    again = pickle.loads(pickle.dumps(split, protocol))
    assert isinstance(again, Split)
    assert again.inputs.dtype == dtype
    assert torch.equal(again.inputs, split.inputs)
    assert torch.equal(again.targets, split.targets)


def test_a_split_is_read_from_memory_that_is_not_its_own() -> None:
    """Protects workers from a copy of the data in each: memory is handed on out of band, in silence."""
    split = Split(torch.arange(12.0).reshape(4, 3), torch.arange(4))
    buffers: list[pickle.PickleBuffer] = []
    message = pickle.dumps(split, 5, buffer_callback=buffers.append)
    memory = [bytes(buffer) for buffer in buffers]
    assert sum(map(len, memory)) == 4 * 3 * 4 + 4 * 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = pickle.loads(message, buffers=memory)
    assert torch.equal(again.inputs, split.inputs)
    addresses = [np.frombuffer(piece, np.uint8).ctypes.data for piece in memory]
    assert [again.inputs.data_ptr(), again.targets.data_ptr()] == addresses


def test_custom_loss_is_the_task_loss() -> None:
    """Protects that a user's own loss replaces cross-entropy."""

    def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()

    task: Task = ClassificationTask.from_arrays("mine", *make_arrays(), loss=mean_output)
    outputs = torch.tensor([[1.0, 2.0, 6.0]])
    assert task.loss(outputs, torch.tensor([0])).item() == 3.0


def test_default_loss_is_mean_cross_entropy() -> None:
    """Protects the loss of a task that names none."""
    task = ClassificationTask.from_arrays("mine", *make_arrays())
    outputs, targets = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    expected = -outputs.log_softmax(dim=1)[torch.arange(8), targets].mean()
    torch.testing.assert_close(task.loss(outputs, targets), expected)


def test_accuracy_counts_non_finite_outputs_as_wrong() -> None:
    """Protects that a network cannot score with infinities or NaN."""
    outputs = torch.tensor([[2.0, 1.0], [float("inf"), 0.0], [float("nan"), 0.0], [0.0, 1.0]])
    assert accuracy(outputs, torch.tensor([0, 0, 0, 0])) == 0.25


@given(size=st.integers(1, 90), epochs=st.integers(1, 3), seed=st.integers(0, 3))
def test_each_epoch_holds_every_example_once(size: int, epochs: int, seed: int) -> None:
    """Protects that batches of any size cut up whole shuffled epochs, and always have that size."""
    task = ClassificationTask.from_arrays("mine", *make_arrays())
    count = len(task.train)
    seen: list[int] = []
    step = 0
    while len(seen) < epochs * count:
        inputs, targets = task.batch(step, seed, size)
        assert len(inputs) == len(targets) == size
        seen += example_numbers(inputs)
        step += 1
    for epoch in range(epochs):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == sorted(example_numbers(task.train.inputs))


def test_batches_are_a_pure_function_of_seed_and_step() -> None:
    """Protects common random numbers: the order of calls does not matter, seed and step do."""
    task = ClassificationTask.from_arrays("mine", *make_arrays())
    forward = [example_numbers(task.batch(step, 5, 7)[0]) for step in range(12)]
    backward = [example_numbers(task.batch(step, 5, 7)[0]) for step in reversed(range(12))]
    assert forward == backward[::-1]
    assert forward[0] != example_numbers(task.batch(0, 6, 7)[0])
    row = list(chain.from_iterable(forward))
    assert row[:36] != row[36:72]


def test_batch_leaves_global_generators_alone() -> None:
    """Protects that drawing batches does not disturb the caller's random numbers."""
    task = ClassificationTask.from_arrays("mine", *make_arrays())
    torch_state, numpy_state = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    task.batch(1, 2, 3)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == pickle.dumps(np.random.get_state())


def test_fingerprint_sees_every_split_and_nothing_else() -> None:
    """Protects that other data, wherever it differs, has another fingerprint, and a new name has not."""
    inputs, targets = make_arrays()
    fingerprint = ClassificationTask.from_arrays("a", inputs, targets).fingerprint()
    assert ClassificationTask.from_arrays("b", inputs, targets).fingerprint() == fingerprint
    assert ClassificationTask.from_arrays("a", inputs, targets, seed=1).fingerprint() != fingerprint
    changed = set()
    for example in range(len(inputs)):
        other = inputs.copy()
        other[example, 1] = 2.0
        changed.add(ClassificationTask.from_arrays("a", other, targets).fingerprint())
    assert len(changed | {fingerprint}) == len(inputs) + 1


def test_to_device_keeps_the_data() -> None:
    """Protects that moving a task changes neither its examples nor its loss."""
    task = ClassificationTask.from_arrays("mine", *make_arrays())
    moved = task.to("cpu")
    assert moved.fingerprint() == task.fingerprint()
    assert moved.loss is task.loss


INPUTS, TARGETS = make_arrays(12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": TARGETS[:-1]}, r"12 inputs but targets of shape \(11,\)"),
        ({"targets": TARGETS[:, None]}, r"targets of shape \(12, 1\)"),
        ({"inputs": INPUTS * np.where(np.arange(12) == 7, np.nan, 1)[:, None]}, "non-finite .* index 7"),
        ({"inputs": INPUTS * 1e300}, "12 of 12 inputs have non-finite values in float32"),
        ({"inputs": INPUTS.astype(np.uint8)}, "inputs are uint8; give floating-point"),
        ({"inputs": INPUTS[:, 0]}, r"inputs have shape \(12,\)"),
        ({"inputs": INPUTS[:0], "targets": TARGETS[:0]}, r"inputs have shape \(0, 2\)"),
        ({"targets": TARGETS.astype(np.float32)}, "targets are float32; they must be integers"),
        ({"targets": TARGETS + 1}, "targets hold the classes 1, 2, 3; number"),
        ({"targets": TARGETS * 0}, "targets hold the classes 0; number two or more"),
        ({"targets": np.array([0] * 10 + [1] * 2)}, "class 1 has too few examples: 2; .* at least 3"),
        ({"fractions": (0.6, 0.2, 0.3)}, "positive and of sum 1"),
        ({"fractions": (1.2, -0.4, 0.2)}, "positive and of sum 1"),
        ({"fractions": (0.5, 0.5)}, "three"),
    ],
)
def test_unusable_data_is_refused_with_its_reason(arguments: dict[str, Any], message: str) -> None:
    """Protects that bad data names the task, what is wrong and what would be right."""
    with pytest.raises(ConfigError, match=f"'mine'.*{message}"):
        ClassificationTask.from_arrays("mine", **{"inputs": INPUTS, "targets": TARGETS, **arguments})


def test_splits_that_do_not_fit_are_refused() -> None:
    """Protects a task that is put together by hand from mismatched parts."""
    good = Split(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ConfigError, match="4 inputs but 3 targets"):
        Split(good.inputs, good.targets[:3])
    with pytest.raises(ConfigError, match=r"held_out split: inputs have shape \(3,\).*\(2,\)"):
        ClassificationTask("t", good, good, Split(torch.zeros(4, 3), good.targets), classes=2)
    with pytest.raises(ConfigError, match="validation split: targets go from 0 to 2"):
        ClassificationTask("t", good, Split(good.inputs, torch.tensor([0, 1, 2, 0])), good, classes=2)
    with pytest.raises(ConfigError, match=r"train split: targets are torch.float32"):
        ClassificationTask("t", Split(good.inputs, good.targets.float()), good, good, classes=2)
    with pytest.raises(ConfigError, match="validation split: there are no examples"):
        ClassificationTask("t", good, Split(good.inputs[:0], good.targets[:0]), good, classes=2)
