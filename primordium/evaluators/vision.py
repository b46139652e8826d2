"""Images on disk as tasks, read by torchvision (extra ``vision``): CIFAR-10, CIFAR-100, folders of images.

All images are held in memory, in float32, standardized by each channel's mean and deviation over the train
split. Which images are in which split depends only on the data and the options.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from primordium.errors import ConfigError
from primordium.evaluators.task import ClassificationTask, Split, stratified_split

Indices = NDArray[np.intp]

_KEPT, _AUGMENTED = 1, 2  # what a generator is for
_MARGIN = 4  # pixels an image is moved by, at most
_CHANNELS = 3
_FLOAT_BYTES = 4
_FRACTIONS = (0.6, 0.2, 0.2)


def cifar10(
    root: Path | str,
    download: bool = False,
    seed: int = 0,
    validation: int = 5000,
    per_class: int | None = None,
    augment: bool = False,
) -> ClassificationTask:
    """CIFAR-10: 3x32x32, ten classes, 45,000 images to train on, 5,000 validation, 10,000 held out.

    Args:
        root: the folder that holds ``cifar-10-batches-py``, or is to hold it.
        download: whether to fetch the data (170 MB) where they are missing.
        seed: chooses the validation images, and those that `per_class` keeps.
        validation: how many of the official training images validate, up to rounding of each class's share.
        per_class: the most images of a class in each split; ``None`` keeps all.
        augment: whether training batches are cropped and mirrored; see :class:`AugmentedTask`.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Raises ConfigError for data that are missing or damaged, a missing torchvision, or an option out of range.
    """
    return _cifar("CIFAR10", root, download, validation, _Choice("cifar10", seed, per_class, augment))


def cifar100(
    root: Path | str,
    download: bool = False,
    seed: int = 0,
    validation: int = 5000,
    per_class: int | None = None,
    augment: bool = False,
) -> ClassificationTask:
    """CIFAR-100 with its hundred fine classes, from ``cifar-100-python``; else as :func:`cifar10`."""
    return _cifar("CIFAR100", root, download, validation, _Choice("cifar100", seed, per_class, augment))


def image_folder(
    root: Path | str,
    size: int = 32,
    seed: int = 0,
    per_class: int | None = None,
    augment: bool = False,
    most_bytes: int = 2**31,
) -> ClassificationTask:
    """Images in one folder a class: their shorter side scaled to `size`, the middle square cut out, in RGB.

    Where there is ``root/train``, it is the train split, and ``root/val`` and ``root/test`` are the others;
    without ``root/test``, ``root/val`` is halved by class. Else the classes lie in `root` itself, and each
    is split 3 : 1 : 1. Files whose endings are not those of images are passed over.

    Args:
        root: the folder.
        size: height and width of the images.
        seed: chooses how classes are split, and the images that `per_class` keeps.
        per_class: the most images of a class in each split; ``None`` keeps all.
        augment: whether training batches are cropped and mirrored; see :class:`AugmentedTask`.
        most_bytes: the most memory that the images may take, in each process that trains.

    Raises ConfigError for folders that are missing, hold no two classes, do not fit each other or are too
    large; for a file that cannot be read, by name; a missing torchvision, or an option out of range.
    """
    choice = _Choice("image_folder", seed, per_class, augment)
    if size < 1:
        raise choice.error(f"size is {size}; it must be at least 1")
    found = _find_folders(choice, _absolute(root), size)
    parts = [(source, choice.kept(source.targets, chosen)) for source, chosen in found]
    classes = len(parts[0][0].classes)
    _check_memory(choice, sum(len(kept) for _, kept in parts), classes, size, most_bytes)
    return choice.task(parts, classes)


class AugmentedTask(ClassificationTask):
    """A task of images whose training batches are moved by up to four pixels each way and mirrored at random.

    What moves in from outside is zero, the mean colour. A batch is still a pure function of its arguments.
    Source: He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2.
    """

    def batch(self, step: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
        """See :meth:`ClassificationTask.batch`; each image is cropped from its padded self."""
        inputs, targets = super().batch(step, seed, size)
        rng = np.random.default_rng((seed, step, _AUGMENTED))
        top, left = torch.from_numpy(rng.integers(0, 2 * _MARGIN + 1, (2, size, 1)))
        mirrored = torch.from_numpy(rng.random((size, 1)) < 0.5)
        height, width = inputs.shape[2:]
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(inputs, [_MARGIN] * 4)
        examples, channels = torch.arange(size), torch.arange(inputs.shape[1])
        places = (
            examples[:, None, None, None],
            channels[:, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        )
        return padded[tuple(place.to(padded.device) for place in places)], targets


@dataclass(frozen=True, eq=False)
class _Source:
    """A set of images: their classes, each one's class number [N], and what reads those of some indices.

    `read` gives [n, 3, H, W] in 256 levels.
    """

    classes: Sequence[str]
    targets: NDArray[np.int64]
    read: Callable[[Indices], Tensor]

    @property
    def indices(self) -> Indices:
        """Every index."""
        return np.arange(len(self.targets))


Part = tuple[_Source, Indices]
"""A split before it is read: some images of a source."""


@dataclass(frozen=True)
class _Choice:
    """What every task here can be told, and what is made of it."""

    name: str
    seed: int
    per_class: int | None
    augment: bool

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise self.error(f"seed is {self.seed}; it must be 0 or more")
        if self.per_class is not None and self.per_class < 1:
            raise self.error(f"per_class is {self.per_class}; it must be at least 1, or null for all")

    def error(self, text: str) -> ConfigError:
        """A mistake in this task's section of a configuration."""
        return ConfigError(f"task {self.name!r}: {text}")

    def cut(self, source: _Source, fractions: Sequence[float], where: Path) -> list[Part]:
        """Parts of a source that hold every class in proportion."""
        counts = np.bincount(source.targets, minlength=len(source.classes))
        fewest = int(counts.argmin())
        if counts[fewest] < len(fractions):
            raise self.error(
                f"class {source.classes[fewest]!r} in {where} has too few images: {counts[fewest]}; "
                f"a split into {len(fractions)} parts needs at least {len(fractions)}"
            )
        return [(source, part) for part in stratified_split(source.targets, fractions, self.seed)]

    def kept(self, targets: NDArray[np.int64], chosen: Indices) -> Indices:
        """At most `per_class` of the chosen of each class; a larger number keeps those of a smaller one."""
        if self.per_class is None:
            return chosen
        rng = np.random.default_rng((self.seed, _KEPT))
        members = [rng.permutation(chosen[targets[chosen] == label]) for label in np.unique(targets)]
        return np.sort(np.concatenate([indices[: self.per_class] for indices in members]))

    def task(self, parts: Sequence[Part], classes: int) -> ClassificationTask:
        """The task of a train, a validation and a held-out part, read and standardized."""
        levels = [source.read(chosen) for source, chosen in parts]
        mean, deviation = _channel_statistics(levels[0])
        train, validation, held_out = (
            Split(_standardized(images, mean, deviation), torch.from_numpy(source.targets[chosen]))
            for images, (source, chosen) in zip(levels, parts, strict=True)
        )
        kind = AugmentedTask if self.augment else ClassificationTask
        return kind(self.name, train, validation, held_out, classes=classes)


def _channel_statistics(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [3] of images [N, 3, H, W], in units of the brightest level.

    From the histogram of levels, so that they are the same in any order and take no memory.
    """
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in levels.unbind(1)]).double()
    shares = counts / counts.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ values
    deviation = (shares * (values - mean[:, None]).square()).sum(dim=1).sqrt()
    return mean, torch.where(deviation > 0, deviation, 1.0)  # a channel without contrast becomes zero


def _standardized(levels: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Images [N, 3, H, W] in float32; worked on in place, for there may be gigabytes of them."""
    images = levels.to(torch.float32)
    shape = (_CHANNELS, 1, 1)
    return images.div_(255).sub_(mean.float().view(shape)).div_(deviation.float().view(shape))


def _cifar(
    kind: str, root: Path | str, download: bool, validation: int, choice: _Choice
) -> ClassificationTask:
    """One of torchvision's CIFAR data sets, by the name of its class there."""
    datasets, _ = _torchvision(choice)
    folder = _absolute(root)
    train, test = _official(choice, getattr(datasets, kind), folder, download)
    classes, count = len(train.classes), len(train.targets)
    if not classes <= validation <= count - classes:
        raise choice.error(
            f"validation is {validation}; with {classes} classes in {count} training images it must be "
            f"from {classes} to {count - classes}"
        )
    share = validation / count
    (source, fitted), (_, validating) = choice.cut(train, (1 - share, share), folder)
    parts = [(source, fitted), (source, validating), (test, test.indices)]
    return choice.task([(s, choice.kept(s.targets, chosen)) for s, chosen in parts], classes)


def _official(choice: _Choice, dataset: Any, folder: Path, download: bool) -> list[_Source]:
    """The official training and test sets, whose checksums torchvision compares."""
    try:
        found = [dataset(folder, train=train, download=download) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        place = folder / dataset.base_folder
        if download:
            raise choice.error(
                f"the data cannot be downloaded to {place}: {error}; put them there by other means, "
                f"from {dataset.filename} unpacked"
            ) from error
        state = "there are damaged or missing files in" if place.is_dir() else "there is no folder"
        raise choice.error(
            f"{state} {place}; set root to the folder that holds {dataset.base_folder}, or set download: true"
        ) from error
    return [_stored(part.data, part.targets, part.classes) for part in found]


def _stored(data: NDArray[np.uint8], targets: list[int], classes: list[str]) -> _Source:
    """Images [N, H, W, 3] that are in memory already."""
    images = torch.from_numpy(data).permute(0, 3, 1, 2)
    return _Source(classes, np.asarray(targets, np.int64), lambda chosen: images[chosen])


def _find_folders(choice: _Choice, root: Path, size: int) -> list[Part]:
    """The train, validation and held-out parts of a folder of images, none of them read yet."""
    if not root.is_dir():
        raise choice.error(f"there is no folder {root}; set root to one that has a folder for each class")
    if not (root / "train").is_dir():
        return choice.cut(_folder_source(choice, root, size), _FRACTIONS, root)
    if not (root / "val").is_dir():
        raise choice.error(f"{root} has a folder train but none called val; put the validation images there")
    train, validation = (_folder_source(choice, root / name, size) for name in ("train", "val"))
    sources = {"val": validation}
    parts = [(train, train.indices)]
    if (root / "test").is_dir():
        test = sources["test"] = _folder_source(choice, root / "test", size)
        parts += [(validation, validation.indices), (test, test.indices)]
    else:
        parts += choice.cut(validation, (0.5, 0.5), root / "val")
    for name, source in sources.items():
        different = sorted(set(train.classes) ^ set(source.classes))
        if different:
            raise choice.error(
                f"the classes in {root / 'train'} and {root / name} differ by {', '.join(different)}; "
                "both must have the same folders"
            )
    return parts


def _folder_source(choice: _Choice, folder: Path, size: int) -> _Source:
    """The images of one folder with a folder for each class."""
    datasets, transforms = _torchvision(choice)
    fit = [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
    try:
        found = datasets.ImageFolder(folder, transform=transforms.Compose(fit))
    except OSError as error:
        raise choice.error(f"{folder}: {error}; give each class a folder with images of its own") from error
    if len(found.classes) < 2:
        raise choice.error(f"{folder} has one class, {found.classes[0]!r}; there must be two or more")

    def read(chosen: Indices) -> Tensor:
        images = torch.empty(len(chosen), _CHANNELS, size, size, dtype=torch.uint8)
        for image, index in zip(images, chosen, strict=True):
            try:
                image.copy_(found[index][0])
            except Exception as error:  # a decoder may fail in any way on a damaged file
                message = f"{found.samples[index][0]} cannot be read as an image: {error}; mend or remove it"
                raise choice.error(message) from error
        return images

    return _Source(found.classes, np.asarray(found.targets, np.int64), read)


def _check_memory(choice: _Choice, images: int, classes: int, size: int, most_bytes: int) -> None:
    """Refuses more images than fit, with what would."""
    each = _CHANNELS * size * size * _FLOAT_BYTES
    if images * each <= most_bytes:
        return
    remedies = [f"raise most_bytes to {images * each}"]
    if (of_class := most_bytes // (3 * classes * each)) >= 1:  # in each of three splits
        remedies.insert(0, f"set per_class to {of_class}")
    if (side := isqrt(max(0, most_bytes) // (_CHANNELS * _FLOAT_BYTES * images))) >= 1:
        remedies.insert(0, f"set size to {side}")
    raise choice.error(
        f"{images} images of {size}x{size} take {images * each} bytes in float32, more than most_bytes = "
        f"{most_bytes}; {', or '.join(remedies)}"
    )


def _absolute(root: Path | str) -> Path:
    """A path whose meaning does not depend on where the program runs; ~ is the user's home."""
    return Path(root).expanduser().absolute()


def _torchvision(choice: _Choice) -> tuple[Any, Any]:
    """torchvision's `datasets` and `transforms`, loaded when a task needs them: that takes a second."""
    try:
        from torchvision import datasets, transforms
    except ImportError as error:
        raise choice.error(
            f"it needs torchvision ({error}); install it with: pip install 'primordium[vision]'"
        ) from error
    except RuntimeError as error:  # how torch refuses torchvision's compiled half
        raise choice.error(
            f"the torchvision that is installed does not fit torch {torch.__version__} ({error}); install "
            "the build of torchvision that was made for this torch"
        ) from error
    return datasets, transforms
