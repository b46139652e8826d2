"""The task of characters: text that no two splits share, batches of a seed, and what is right or wrong."""

import math

import pytest
import torch

from primordium.errors import ConfigError
from primordium.evaluators.characters import (
    SequenceTask,
    characters,
    help_paragraphs,
    position_accuracy,
    position_cross_entropy,
)
from primordium.evaluators.task import SPLIT_NAMES, Split, Task

LENGTH = 48


@pytest.fixture(scope="module")
def task() -> SequenceTask:
    """The task at another length than the usual one."""
    return characters(LENGTH, examples=300)


def windows(split: Split) -> set[bytes]:
    """The sequences of a split."""
    return {row.numpy().tobytes() for row in split.inputs}


def test_shapes_types_and_numbers(task: SequenceTask) -> None:
    """Protects the documented sizes, and that most of the text trains."""
    known: Task = task
    assert known.name == "characters"
    assert (task.input_shape, task.causal, task.tokens) == ((LENGTH,), True, task.classes)
    assert 60 <= task.classes <= 110
    assert (len(task.validation), len(task.held_out)) == (300, 300)
    assert len(task.train) * LENGTH > 150_000
    for split in (task.train, task.validation, task.held_out):
        assert (split.inputs.dtype, split.targets.dtype) == (torch.int64, torch.int64)
        assert split.inputs.shape == split.targets.shape == (len(split), LENGTH)
        assert 0 <= split.inputs.min() <= split.inputs.max() < task.classes
    assert task.train.inputs.flatten().bincount(minlength=task.classes).count_nonzero() == task.classes


def test_targets_are_the_next_characters(task: SequenceTask) -> None:
    """Each target is what the input has one position later; the train split goes on from window to window."""
    for split in (task.train, task.validation, task.held_out):
        assert torch.equal(split.inputs[:, 1:], split.targets[:, :-1])
    assert torch.equal(task.train.inputs[1:, 0], task.train.targets[:-1, -1])


def test_splits_share_no_text(task: SequenceTask) -> None:
    """What a network was fitted to is not scored, wherever in the text a window starts."""
    train = task.train.inputs.view(-1)
    text = train.to(torch.uint8).numpy().tobytes()
    for split in (task.validation, task.held_out):
        found = sum(row.to(torch.uint8).numpy().tobytes() in text for row in split.inputs)
        assert found <= len(split) // 25  # some sentences are in two paragraphs
    assert len(windows(task.validation) & windows(task.held_out)) <= 3


def test_no_paragraph_comes_twice() -> None:
    """Topics quote each other at length; a paragraph in two blocks could be in two splits."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in help_paragraphs()]
    assert len(paragraphs) == len(set(paragraphs)) > 1000
    assert all(paragraphs)


def test_the_data_is_a_function_of_the_arguments(task: SequenceTask) -> None:
    """The same arguments give the same examples, each other argument others."""
    assert task.fingerprint() == characters(LENGTH, examples=300).fingerprint()
    others = [
        characters(LENGTH, examples=300, seed=1),
        characters(LENGTH, examples=299),
        characters(LENGTH - 1, examples=300),
    ]
    assert len({task.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    assert others[0].classes == task.classes
    assert torch.equal(others[1].train.inputs, task.train.inputs)


def test_a_batch_is_a_pure_function_of_step_seed_and_size(task: SequenceTask) -> None:
    """All candidates meet the same windows, whoever asked before, and steps and seeds differ."""
    before = torch.get_rng_state()
    first = task.batch(3, 1, 5)
    task.batch(0, 0, 2)
    again = task.batch(3, 1, 5)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for step, seed in ((4, 1), (3, 2)):
        assert not torch.equal(first[0], task.batch(step, seed, 5)[0])


def test_batches_are_windows_of_the_training_text(task: SequenceTask) -> None:
    """A window may start anywhere, so few are the ones of the split, and none is of another split."""
    inputs, targets = task.batch(0, 0, 200)
    assert inputs.shape == targets.shape == (200, LENGTH)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    text = task.train.inputs.view(-1).to(torch.uint8).numpy().tobytes()
    rows = [row.to(torch.uint8).numpy().tobytes() for row in torch.cat([inputs, targets[:, -1:]], dim=1)]
    assert all(row in text for row in rows)
    assert len(windows(Split(inputs, targets)) & windows(task.train)) < 40


def test_chance_is_what_always_saying_the_commonest_character_scores(task: SequenceTask) -> None:
    """The gates measure against the best guess that looks at nothing."""
    common = int(task.validation.targets.flatten().mode().values)
    outputs = torch.zeros(*task.validation.targets.shape, task.classes)
    outputs[..., common] = 1.0
    assert task.chance == pytest.approx(task.metric(outputs, task.validation.targets))
    assert 0.1 < task.chance < 0.3


def test_loss_and_metric_are_over_all_positions() -> None:
    """Every position counts alike, and one that is not finite is wrong."""
    targets = torch.tensor([[0, 1, 2], [2, 1, 0]])
    outputs = torch.full((2, 3, 3), -20.0).scatter(2, targets[..., None], 20.0)
    assert position_accuracy(outputs, targets) == 1.0
    assert position_cross_entropy(outputs, targets).item() < 1e-6
    outputs[0, 1] = torch.nan
    outputs[1, 2] = torch.tensor([0.0, 30.0, 0.0])
    assert position_accuracy(outputs, targets) == pytest.approx(4 / 6)
    even = torch.zeros(2, 3, 3, requires_grad=True)
    loss = position_cross_entropy(even, targets)
    assert loss.item() == pytest.approx(math.log(3))
    torch.autograd.backward(loss)
    assert even.grad is not None
    assert even.grad.abs().sum((0, 2)).count_nonzero() == 3


def test_moving_keeps_the_task(task: SequenceTask) -> None:
    """The same examples and the same batches on another device."""
    moved = task.to("cpu")
    assert moved.fingerprint() == task.fingerprint()
    assert torch.equal(moved.batch(1, 0, 4)[0], task.batch(1, 0, 4)[0])
    nowhere = task.to("meta")
    assert all(getattr(nowhere, name).inputs.device.type == "meta" for name in SPLIT_NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "characters: length=0, .*the least are length 1"),
        ({"examples": 0}, "examples=0"),
        ({"seed": -1}, "seed=-1"),
        ({"examples": 100_000}, "a split has .* windows of 64; give fewer examples or shorter ones"),
        ({"length": 200_000, "examples": 1}, "windows of 200000"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, int], message: str) -> None:
    """Every mistake is found when the task is made, with what would be right."""
    with pytest.raises(ConfigError, match=message):
        characters(**options)
