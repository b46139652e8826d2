"""The digits task: its split, its scaling and its being the same every time."""

import torch

from primordium.evaluators.digits import digits


def test_split_sizes_and_classes() -> None:
    """Protects the documented sizes, shapes, types and balance of the splits."""
    task = digits()
    sizes = [len(task.train), len(task.validation), len(task.held_out)]
    assert sum(sizes) == 1797
    for size, documented in zip(sizes, (997, 400, 400), strict=True):
        assert abs(size - documented) <= 10
    assert (task.input_shape, task.classes) == ((1, 8, 8), 10)
    for split in (task.train, task.validation, task.held_out):
        assert (split.inputs.dtype, split.targets.dtype) == (torch.float32, torch.int64)
        shares = split.targets.bincount(minlength=10) / len(split)
        assert ((shares - 0.1).abs() < 0.01).all()


def test_splits_share_no_image() -> None:
    """Protects that nothing a network was fitted to is scored."""
    task = digits()
    images = [
        {image.numpy().tobytes() for image in split.inputs}
        for split in (task.train, task.validation, task.held_out)
    ]
    assert len(set.union(*images)) == sum(map(len, images))


def test_standardized_by_train_split() -> None:
    """Protects that scaling uses the train split's statistics and no others."""
    task = digits()
    assert abs(task.train.inputs.double().mean().item()) < 1e-6
    assert abs(task.train.inputs.double().std(correction=0).item() - 1) < 1e-6
    assert abs(task.validation.inputs.double().mean().item()) > 1e-6


def test_same_data_every_time() -> None:
    """Protects that runs on different days and machines see the same digits."""
    assert digits().fingerprint() == digits().fingerprint() == "46baeb2224f6c7d5b1f477a5c2f25628"
