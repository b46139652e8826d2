"""Images on disk: what is read from small files of the real formats, how it is split, and every mistake."""

import hashlib
import pickle
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from primordium.configs.schema import load_config
from primordium.errors import ConfigError
from primordium.evaluators.models.registry import build_model
from primordium.evaluators.task import SPLIT_NAMES, ClassificationTask
from primordium.evaluators.tasks import get_task
from primordium.evaluators.training import Recipe, train
from primordium.evaluators.vision import AugmentedTask, cifar10, cifar100, image_folder

Image = pytest.importorskip("PIL.Image", exc_type=ImportError)

STAND_INS: list[Any] = []


def load_torchvision() -> Any:
    """torchvision; beside a CPU build of torch, without its compiled half, which reading images does not use.

    The torchvision of the package index is compiled for CUDA. Beside a torch without it that half does not
    load, and two operators of object detection are missed while torchvision is imported.
    """
    try:
        return pytest.importorskip("torchvision", exc_type=ImportError)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    make_library: Any = torch.library.Library
    library = make_library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    STAND_INS.append(library)  # operators go when their library does
    return pytest.importorskip("torchvision", exc_type=ImportError)


datasets = load_torchvision().datasets

CIFAR: dict[str, Callable[..., ClassificationTask]] = {"CIFAR10": cifar10, "CIFAR100": cifar100}
CLASSES = 10


# ----------------------------------------------------------------------------------------- files of one's own


@dataclass(frozen=True)
class Written:
    """What a test wrote: images [N, 3, H, W] in 256 levels and their class numbers [N]."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __add__(self, other: "Written") -> "Written":
        return Written(
            np.concatenate([self.images, other.images]), np.concatenate([self.targets, other.targets])
        )


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    """Random levels whose mean and contrast are no round numbers and differ between channels."""
    levels = np.random.default_rng(seed).integers(20, 200, shape)
    duller, brighter = np.array([1, 2, 3])[:, None, None], np.array([0, 40, 10])[:, None, None]
    images: NDArray[np.uint8] = (levels // duller + brighter).astype(np.uint8)
    return images


def write_cifar(root: Path, kind: str, patch: pytest.MonkeyPatch) -> Written:
    """The files of a small CIFAR under their official names: 100 images to train on, then 40 to test.

    torchvision compares checksums with a table of its own, which the patch replaces. CIFAR-100 has ten
    classes here as well.
    """
    dataset = getattr(datasets, kind)
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    written = []
    for count, table in ((100, "train_list"), (40, "test_list")):
        images, targets = noise(count, count, 3, 32, 32), np.arange(count) * 7 % CLASSES
        listed = [name for name, _ in getattr(dataset, table)]
        sums = []
        for name, part in zip(listed, np.split(np.arange(count), len(listed)), strict=True):
            labels = "labels" if kind == "CIFAR10" else "fine_labels"
            content = {"data": images[part].reshape(-1, 3072), labels: targets[part].tolist()}
            sums.append([name, write(name, content)])
        patch.setattr(dataset, table, sums)
        written.append(Written(images, targets))
    names = {dataset.meta["key"]: [f"class {label}" for label in range(CLASSES)]}
    patch.setattr(dataset, "meta", {**dataset.meta, "md5": write(dataset.meta["filename"], names)})
    return written[0] + written[1]


def write_images(folder: Path, classes: int = 3, count: int = 10, side: int = 8, seed: int = 0) -> Written:
    """Folders ``class 0``, ``class 1``, ... with PNG images of noise."""
    images = noise(seed, classes * count, 3, side, side)
    targets = np.repeat(np.arange(classes), count)
    for number, (image, label) in enumerate(zip(images, targets, strict=True)):
        path = folder / f"class {label}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return Written(images, targets)


# ----------------------------------------------------------------------------------------------- what is read


def indices_of(task: ClassificationTask, written: Written) -> list[list[int]]:
    """Which of the written images each split holds; they must have the targets and pixels that were written.

    An image is known by how it varies, whatever its scale. Its pixels must be those that were written, made
    standard by mean and deviation of the train split's.
    """

    def pattern(images: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = images - images.mean(axis=(2, 3), keepdims=True)
        standard: NDArray[np.float64] = centred / centred.std(axis=(2, 3), keepdims=True)
        return standard.reshape(len(images), -1)

    splits = [getattr(task, name) for name in SPLIT_NAMES]
    images = written.images.astype(np.float64)
    found = [(pattern(split.inputs.double().numpy()) @ pattern(images).T).argmax(axis=1) for split in splits]
    fitted = images[found[0]]
    mean, deviation = fitted.mean(axis=(0, 2, 3)), fitted.std(axis=(0, 2, 3))
    for split, indices in zip(splits, found, strict=True):
        expected = (images[indices] - mean[:, None, None]) / deviation[:, None, None]
        np.testing.assert_allclose(split.inputs.numpy(), expected, atol=1e-5)
        assert split.targets.tolist() == written.targets[indices].tolist()
        assert (split.inputs.dtype, split.targets.dtype) == (torch.float32, torch.int64)
        assert split.inputs.is_contiguous()
    return [indices.tolist() for indices in found]


def counts_of(task: ClassificationTask) -> list[list[int]]:
    """The number of examples of each class in each split."""
    return [getattr(task, name).targets.bincount().tolist() for name in SPLIT_NAMES]


@pytest.mark.parametrize("kind", sorted(CIFAR))
def test_cifar_is_what_its_files_hold(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects pixels, targets, the test set as held-out, validation images from every class of the rest."""
    written = write_cifar(tmp_path, kind, monkeypatch)
    task = CIFAR[kind](tmp_path, validation=20)
    assert (task.name, task.input_shape, task.classes) == (kind.lower(), (3, 32, 32), CLASSES)
    assert counts_of(task) == [[8] * CLASSES, [2] * CLASSES, [4] * CLASSES]
    fitted, validating, held_out = indices_of(task, written)
    assert sorted(fitted + validating) == list(range(100))
    assert held_out == list(range(100, 140))


def test_a_folder_of_classes_is_split_by_class(tmp_path: Path) -> None:
    """Protects that every image is in one split, 3 : 1 : 1, with the class of its folder."""
    written = write_images(tmp_path)
    (tmp_path / "class 1" / "notes.txt").write_text("no image, and not taken for one")
    task = image_folder(tmp_path, size=8)
    assert (task.name, task.input_shape, task.classes) == ("image_folder", (3, 8, 8), 3)
    assert counts_of(task) == [[6] * 3, [2] * 3, [2] * 3]
    assert sorted(chain(*indices_of(task, written))) == list(range(30))


def test_folders_of_splits_are_those_splits(tmp_path: Path) -> None:
    """Protects that train, val and test are used as they are, without mixing."""
    parts = [write_images(tmp_path / name, seed=seed) for seed, name in enumerate(("train", "val", "test"))]
    task = image_folder(tmp_path, size=8)
    assert indices_of(task, parts[0] + parts[1] + parts[2]) == [
        list(range(start, start + 30)) for start in (0, 30, 60)
    ]


def test_without_a_test_folder_val_is_halved(tmp_path: Path) -> None:
    """Protects that what is held out is never what was selected on."""
    written = write_images(tmp_path / "train") + write_images(tmp_path / "val", seed=1)
    fitted, validating, held_out = indices_of(task := image_folder(tmp_path, size=8), written)
    assert counts_of(task) == [[10] * 3, [5] * 3, [5] * 3]
    assert fitted == list(range(30))
    assert sorted(validating + held_out) == list(range(30, 60))


def test_the_seed_alone_chooses_the_split(tmp_path: Path) -> None:
    """Protects that a run finds the same data again, and that global generators stay as they were."""
    write_images(tmp_path)
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    prints = [image_folder(tmp_path, size=8, seed=seed).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == pickle.dumps(np.random.get_state())


@pytest.mark.parametrize("kind", ["CIFAR10", "folder"])
def test_a_larger_share_of_a_class_holds_the_smaller(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects that `per_class` bounds each split, and that no image changes its split with it."""
    written = write_images(tmp_path, 4, 20) if kind == "folder" else write_cifar(tmp_path, kind, monkeypatch)
    kept = []
    for per_class in (1, 3, None):
        options: dict[str, Any] = {"size": 8} if kind == "folder" else {"validation": 40}
        task = get_task(
            "image_folder" if kind == "folder" else "cifar10", root=tmp_path, per_class=per_class, **options
        )
        assert isinstance(task, ClassificationTask)
        assert all(1 <= count <= (per_class or 99) for counts in counts_of(task) for count in counts)
        kept.append([set(indices) for indices in indices_of(task, written)])
    for few, more in pairwise(kept):
        assert all(part < larger for part, larger in zip(few, more, strict=True))


def test_images_are_scaled_and_cut_from_the_middle(tmp_path: Path) -> None:
    """Protects the geometry: the shorter side becomes `size`, and what is beyond goes at both ends."""
    blocks = noise(3, 6, 3, 4, 4)
    for number, block in enumerate(blocks):
        framed = np.pad(block, ((0, 0), (0, 0), (2, 2)) if number % 2 else ((0, 0), (3, 3), (0, 0)))
        larger = framed.repeat(4, axis=1).repeat(4, axis=2)  # scaled down by whole blocks, it is what it was
        path = tmp_path / f"class {number // 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(larger.transpose(1, 2, 0)).resize(framed.shape[:0:-1], Image.Resampling.BOX).save(
            path
        )
    task = image_folder(tmp_path, size=4)
    assert sorted(chain(*indices_of(task, Written(blocks, np.repeat([0, 1], 3))))) == list(range(6))
    assert image_folder(tmp_path, size=6).input_shape == (3, 6, 6)


@pytest.mark.parametrize(
    ("mode", "ending", "colour", "expected"),
    [
        ("RGB", "jpg", (200, 100, 50), (200, 100, 50)),
        ("L", "png", 90, (90, 90, 90)),
        ("RGBA", "png", (10, 200, 30, 128), (10, 200, 30)),
        ("1", "png", 1, (255, 255, 255)),
    ],
)
def test_every_kind_of_image_becomes_rgb(
    mode: str, ending: str, colour: Any, expected: tuple[int, ...], tmp_path: Path
) -> None:
    """Protects that grey, transparent and JPEG images give the colours a viewer shows."""
    for label, shade in enumerate((colour, 0 if isinstance(colour, int) else (0,) * len(colour))):
        folder = tmp_path / f"class {label}"
        folder.mkdir()
        for number in range(3):
            Image.new(mode, (12, 9), shade).save(folder / f"{number}.{ending}")
    task = image_folder(tmp_path, size=4)
    for split in (task.train, task.validation, task.held_out):  # half the train split's pixels are black
        assert (split.inputs.amax(dim=(2, 3)) - split.inputs.amin(dim=(2, 3)) < 0.05).all()
    bright, dark = (task.train.inputs[task.train.targets == label][0, :, 0, 0] for label in (0, 1))
    torch.testing.assert_close(bright - dark, torch.full((3,), 2.0))
    assert [level > 0 for level in expected] == (bright > dark).tolist()


def test_a_channel_without_contrast_is_zero(tmp_path: Path) -> None:
    """Protects against dividing by a deviation of zero."""
    for label in range(2):
        (tmp_path / f"class {label}").mkdir()
        for number in range(5):
            Image.new("RGB", (4, 4), (40 * number, 100 * label, 77)).save(
                tmp_path / f"class {label}/{number}.png"
            )
    inputs = image_folder(tmp_path, size=4).train.inputs
    assert inputs.isfinite().all()
    assert inputs[:, 2].abs().max() < 1e-6
    assert inputs[:, 0].std() > 0.9


def test_a_place_may_be_relative_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the ways in which people write paths in a configuration."""
    write_images(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tasks = [get_task("image_folder", root=root, size=8) for root in (tmp_path / "mine", "mine", "~/mine")]
    assert len({task.fingerprint() for task in tasks}) == 1


def test_the_preset_names_options_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the preset: its task is made from data where it says, and a network trains on it."""
    write_cifar(tmp_path / "data", "CIFAR10", monkeypatch)
    monkeypatch.chdir(tmp_path)
    config = load_config("layers-cifar10", ["task.options.validation=20"])
    task = get_task(config.task.name, **config.task.options)
    assert isinstance(task, AugmentedTask)
    model = build_model("residual", task, lambda channels, _: torch.nn.BatchNorm2d(channels), width=2)
    assert train(model, task, Recipe(steps=2), seed=0).finite


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_missing_data_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects ``download``: an archive from a server of our own ends as data to use, only once."""
    write_cifar(tmp_path / "there", "CIFAR10", monkeypatch)
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "there/cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch = partial(cifar10, tmp_path / "here", download=True, validation=20)
    with served(tmp_path) as address:
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/{archive.name}")
        fetched = fetch()
    for again in (fetch(), cifar10(tmp_path / "there", validation=20)):
        assert again.fingerprint() == fetched.fingerprint()


# ----------------------------------------------------------------------------------------------- augmentation


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ClassificationTask, ClassificationTask]:
    """The same images plain and augmented."""
    write_images(tmp_path, count=20)
    plain, augmented = (image_folder(tmp_path, size=8, augment=augment) for augment in (False, True))
    return plain, augmented


def test_augmented_images_are_moved_and_mirrored(pair: tuple[ClassificationTask, ClassificationTask]) -> None:
    """Protects that each image of a batch is a crop of its padded self, mirrored or not, of all there are."""
    plain, augmented = pair
    seen: set[tuple[int, int, bool]] = set()
    for step in range(12):
        (before, targets), (after, same) = plain.batch(step, 3, 32), augmented.batch(step, 3, 32)
        assert torch.equal(targets, same)
        for image, found in zip(before, after, strict=True):
            padded = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)))
            crops = {
                (top, left, mirrored): crop[:, :, ::-1] if mirrored else crop
                for top in range(9)
                for left in range(9)
                for crop in (padded[:, top : top + 8, left : left + 8],)
                for mirrored in (False, True)
            }
            matching = {place for place, crop in crops.items() if np.array_equal(crop, found.numpy())}
            assert matching
            seen |= matching
    assert {place[0] for place in seen} == {place[1] for place in seen} == set(range(9))
    assert {place[2] for place in seen} == {False, True}
    assert len(seen) > 120  # of 162, in 384 images


def test_augmented_batches_are_a_pure_function(pair: tuple[ClassificationTask, ClassificationTask]) -> None:
    """Protects common random numbers: seed and step decide, not the order of calls nor global generators."""
    _, task = pair
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    forward = [task.batch(step, 5, 16)[0] for step in range(6)]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == pickle.dumps(np.random.get_state())
    torch.manual_seed(1)
    backward = [task.to("cpu").batch(step, 5, 16)[0] for step in reversed(range(6))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not torch.equal(forward[0], task.batch(0, 6, 16)[0])


def test_only_training_batches_are_augmented(pair: tuple[ClassificationTask, ClassificationTask]) -> None:
    """Protects what is scored: the examples are the same with augmentation as without."""
    plain, augmented = pair
    assert isinstance(augmented.to("cpu"), AugmentedTask)
    assert not isinstance(plain, AugmentedTask)
    assert plain.fingerprint() == augmented.fingerprint()


# -------------------------------------------------------------------------------------------- what goes wrong


def test_missing_torchvision_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects whoever installed Primordium without the extra."""
    monkeypatch.setitem(sys.modules, "torchvision", None)
    write_images(tmp_path)
    for name in ("cifar10", "cifar100", "image_folder"):
        with pytest.raises(ConfigError, match=rf"{name}.*torchvision.*pip install 'primordium\[vision\]'"):
            get_task(name, root=tmp_path)


def test_a_torchvision_for_another_torch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects whoever has two builds that do not fit, which torch reports as a missing operator."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text("raise RuntimeError('operator x::y does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision")
    with pytest.raises(
        ConfigError, match=r"does not fit torch .*operator x::y does not exist.*install the build"
    ):
        cifar10(tmp_path)


@pytest.mark.parametrize("kind", sorted(CIFAR))
def test_missing_and_damaged_data_are_told_apart(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects that the message names the folder that was looked in, and both remedies."""
    folder = tmp_path / "there" / getattr(datasets, kind).base_folder
    remedy = f"set root to the folder that holds {folder.name}, or set download: true"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(f"there is no folder {folder}; {remedy}")):
        CIFAR[kind]("there")
    write_cifar(tmp_path / "there", kind, monkeypatch)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"?")
        with pytest.raises(ConfigError, match=re.escape(f"damaged or missing files in {folder}; {remedy}")):
            CIFAR[kind]("there")
        path.write_bytes(whole)
    assert CIFAR[kind]("there", validation=20).classes == CLASSES


def test_a_download_that_fails_says_what_else_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects whoever has no network."""
    monkeypatch.setattr(datasets.CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    with pytest.raises(
        ConfigError, match=r"cannot be downloaded to .*batches-py: .*cifar-10-python.tar.gz unpacked"
    ):
        cifar10(tmp_path / "data", download=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"validation": 9},
            "validation is 9; with 10 classes in 100 training images it must be from 10 to 90",
        ),
        ({"validation": 91}, "validation is 91; .* from 10 to 90"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
        ({"per_class": 0}, "per_class is 0; it must be at least 1, or null"),
        ({"augment": "often"}, "augment is 'often': .*boolean"),
        (
            {"size": 16},
            "unknown option 'size'; options: root, download, seed, validation, per_class, augment",
        ),
    ],
)
def test_an_option_out_of_range_is_named(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects that a mistake names the task, the option, its value and what would be right."""
    write_cifar(tmp_path, "CIFAR10", monkeypatch)
    with pytest.raises(ConfigError, match=f"task 'cifar10': {message}"):
        get_task("cifar10", root=tmp_path, **options)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "image_folder"])
def test_data_on_disk_need_a_place(name: str) -> None:
    """Protects that a forgotten root is named."""
    with pytest.raises(ConfigError, match=f"task '{name}'.*'root'"):
        get_task(name)


def spoil(root: Path, mistake: str) -> None:
    """Makes one mistake in three folders of ten images."""
    folder = root / "class 1"
    images = sorted(folder.iterdir())
    if mistake == "cut off":
        images[3].write_bytes(images[3].read_bytes()[:60])
    elif mistake == "no image":
        (folder / "notes.jpg").write_text("no image at all")
    elif mistake == "empty file":
        images[3].write_bytes(b"")
    elif mistake == "empty class":
        (root / "class 9").mkdir()
    elif mistake == "few":
        for path in images[2:]:
            path.unlink()
    elif mistake == "one class":
        for path in [*(root / "class 0").iterdir(), *(root / "class 2").iterdir()]:
            path.unlink()
        (root / "class 0").rmdir()
        (root / "class 2").rmdir()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("cut off", "class 1/013.png cannot be read as an image: .*; mend or remove it"),
        ("no image", "class 1/notes.jpg cannot be read as an image: .*; mend or remove it"),
        ("empty file", "class 1/013.png cannot be read as an image: .*; mend or remove it"),
        (
            "empty class",
            "Found no valid file for the classes class 9.*; give each class a folder with images",
        ),
        ("few", "class 'class 1' in .*mine has too few images: 2; a split into 3 parts needs at least 3"),
        ("one class", "mine has one class, 'class 1'; there must be two or more"),
    ],
)
def test_an_unusable_folder_of_images_is_named(mistake: str, message: str, tmp_path: Path) -> None:
    """Protects that the file or folder that is wrong stands in the message."""
    write_images(tmp_path / "mine")
    spoil(tmp_path / "mine", mistake)
    with pytest.raises(ConfigError, match=f"(?s)task 'image_folder': .*{message}"):
        image_folder(tmp_path / "mine", size=8)


def test_folders_that_do_not_make_a_task_are_named(tmp_path: Path) -> None:
    """Protects the layout: what is missing, or differs between splits, is said with its path."""
    with pytest.raises(ConfigError, match=f"there is no folder {tmp_path}/none; set root to one"):
        image_folder(tmp_path / "none")
    with pytest.raises(ConfigError, match=f"Couldn't find any class folder in {tmp_path}.*; give each class"):
        image_folder(tmp_path)
    with pytest.raises(ConfigError, match="size is 0; it must be at least 1"):
        image_folder(tmp_path, size=0)
    write_images(tmp_path / "train")
    with pytest.raises(ConfigError, match=f"{tmp_path} has a folder train but none called val"):
        image_folder(tmp_path)
    write_images(tmp_path / "val", classes=2)
    with pytest.raises(ConfigError, match=r"classes in .*train and .*val differ by class 2; both"):
        image_folder(tmp_path)
    write_images(tmp_path / "val", classes=3)
    write_images(tmp_path / "test", classes=4)
    with pytest.raises(ConfigError, match=r"classes in .*train and .*test differ by class 3; both"):
        image_folder(tmp_path)


def test_too_many_images_are_refused_with_what_would_fit(tmp_path: Path) -> None:
    """Protects the machine's memory: the bound is exact, and each remedy works."""
    write_images(tmp_path)
    needed = 30 * 3 * 8 * 8 * 4
    assert image_folder(tmp_path, size=8, most_bytes=needed).classes == 3
    with pytest.raises(ConfigError, match=f"30 images of 8x8 take {needed} bytes") as caught:
        image_folder(tmp_path, size=8, most_bytes=needed - 1)
    remedies = re.findall(r"(?:set|raise) (\w+) to (\d+)", str(caught.value))
    assert [name for name, _ in remedies] == ["size", "per_class", "most_bytes"]
    for name, value in remedies:
        get_task("image_folder", root=tmp_path, **{"size": 8, "most_bytes": needed - 1, name: int(value)})
    with pytest.raises(ConfigError, match=r"most_bytes = 100; raise most_bytes to 23040$"):
        image_folder(tmp_path, size=8, most_bytes=100)
