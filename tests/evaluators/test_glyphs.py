"""The glyph generator: what its images depend on, how its splits differ, and its cache."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from primordium.errors import ConfigError
from primordium.evaluators.glyphs import draw_class, glyphs
from primordium.evaluators.task import ClassificationTask


def make(cache_dir: Path, per_class: int = 10, classes: int = 3) -> ClassificationTask:
    """A small task."""
    return glyphs(classes, per_class, seed=4, cache_dir=cache_dir)


def test_pixels_are_the_same_on_every_machine() -> None:
    """Protects stored runs: the drawings of a seed may not change with a version of anything."""
    images = np.stack([draw_class(label, 5, seed=0) for label in range(10)])
    assert blake2b(images.tobytes(), digest_size=8).hexdigest() == "d6b751a71b3265eb"


def test_more_images_append_to_every_split(tmp_path: Path) -> None:
    """Protects that a larger task begins with the smaller one, split by split."""
    small, large = make(tmp_path, 11), make(tmp_path, 23)
    for name in ("train", "validation", "held_out"):
        first, more = getattr(small, name), getattr(large, name)
        assert len(first) < len(more)
        assert torch.equal(first.inputs, more.inputs[: len(first)])
        assert torch.equal(first.targets, more.targets[: len(first)])


def test_an_image_does_not_depend_on_the_other_classes(tmp_path: Path) -> None:
    """Protects that adding classes keeps the images of those there were."""
    few, many = make(tmp_path, classes=2).train, make(tmp_path, classes=4).train
    for label in range(2):
        assert torch.equal(few.inputs[few.targets == label], many.inputs[many.targets == label])


def test_splits_share_no_image_and_are_balanced(tmp_path: Path) -> None:
    """Protects that splits come from disjoint indices, 3 : 1 : 1, with all classes alike."""
    task = make(tmp_path, per_class=20)
    splits = (task.train, task.validation, task.held_out)
    assert [split.targets.bincount().tolist() for split in splits] == [[12] * 3, [4] * 3, [4] * 3]
    images = [image.numpy().tobytes() for split in splits for image in split.inputs]
    assert len(set(images)) == 60


def test_shape_and_scale(tmp_path: Path) -> None:
    """Protects that a network gets float32 images of about mean 0 and deviation 1."""
    inputs = glyphs(10, 40, cache_dir=tmp_path).train.inputs
    assert inputs.shape == (240, 1, 32, 32)
    assert inputs.dtype == torch.float32
    assert abs(inputs.mean().item()) < 0.1
    assert abs(inputs.std().item() - 1) < 0.1


def test_seeds_and_classes_differ() -> None:
    """Protects that seed and class choose the prototype: mean images are far apart."""
    means = [draw_class(label, 60, seed).mean(axis=0) for seed in (0, 1) for label in range(5)]
    same = np.abs(draw_class(0, 120, 0)[60:].mean(axis=0) - means[0]).mean()
    for i, mean in enumerate(means):
        for other in means[:i]:
            assert np.abs(mean - other).mean() > 1.5 * same


def test_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects that a second call draws no more than one image of each class."""
    first = make(tmp_path).fingerprint()
    drawn: list[int] = []

    def counting(label: int, count: int, seed: int) -> np.ndarray:
        drawn.append(count)
        return draw_class(label, count, seed)

    monkeypatch.setattr("primordium.evaluators.glyphs.draw_class", counting)
    assert make(tmp_path).fingerprint() == first
    assert drawn == [1, 1, 1]


def test_cache_goes_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the order of places: argument, $PRIMORDIUM_CACHE, home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRIMORDIUM_CACHE", str(tmp_path / "variable"))
    glyphs(2, 5, cache_dir=tmp_path / "argument")
    assert [path.name for path in tmp_path.iterdir()] == ["argument"]
    glyphs(2, 5)
    assert len(list((tmp_path / "variable").iterdir())) == 1
    monkeypatch.delenv("PRIMORDIUM_CACHE")
    glyphs(2, 5)
    assert len(list((tmp_path / "home" / ".cache" / "primordium").iterdir())) == 1


@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "flipped", "stale", "other shape"])
def test_a_broken_cache_file_is_drawn_again(tmp_path: Path, damage: str) -> None:
    """Protects that no damage to a cache file changes the data or stops a run, and that it is mended."""
    expected = make(tmp_path).fingerprint()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    images = np.load(path)["images"]
    if damage == "stale":
        np.savez(path, images=np.roll(images, 1, axis=-1))
    elif damage == "other shape":
        np.savez(path, images=images[:-1])
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        contents = {"empty": b"", "garbage": b"x" * 99, "truncated": whole[:middle], "flipped": flipped}
        path.write_bytes(contents[damage])
    assert make(tmp_path).fingerprint() == expected
    assert np.array_equal(np.load(path)["images"], images)


def test_no_place_for_a_cache_only_warns(tmp_path: Path) -> None:
    """Protects that a folder that cannot be written costs time, not the run."""
    expected = make(tmp_path / "good").fingerprint()
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="glyphs are not kept"):
        assert make(tmp_path / "file" / "folder").fingerprint() == expected


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects that a full disk leaves neither half a file nor a temporary one."""

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("numpy.savez", full_disk)
    with pytest.warns(UserWarning, match="no space left"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_writers_at_once_share_a_cache(tmp_path: Path) -> None:
    """Protects that workers that draw at the same time see the same data and leave one whole file."""
    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(make, [tmp_path] * 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tasks.append(make(tmp_path))
    assert len({task.fingerprint() for task in tasks}) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_global_generators_are_left_alone(tmp_path: Path) -> None:
    """Protects that drawing does not disturb the caller's random numbers."""
    before = pickle.dumps(np.random.get_state())
    make(tmp_path)
    assert before == pickle.dumps(np.random.get_state())


@pytest.mark.parametrize("arguments", [{"classes": 1}, {"per_class": 4}, {"seed": -1}])
def test_impossible_requests_are_refused(arguments: dict[str, Any]) -> None:
    """Protects that an error says what was asked for and what the least is."""
    (name, value), *_ = arguments.items()
    with pytest.raises(ConfigError, match=f"{name}={value}.*at least"):
        glyphs(**arguments)
