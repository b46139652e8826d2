"""Rendered glyphs, 1x32x32: any number of classes and images of them, drawn by NumPy from a seed.

A class is a prototype of a few strokes; an image is its prototype under a random affine map, a smooth
elastic jitter, a stroke width, clutter strokes, a contrast and noise. Each image depends only on
(seed, class, index), so asking for more images or classes keeps the ones there were.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from primordium.errors import ConfigError
from primordium.evaluators.task import ClassificationTask, Split

Array = NDArray[np.float64]
Number = Array | float
Point = Array | tuple[Number, Number]
Stroke = Callable[[Array, Array], Array]
"""The distance to a stroke's centre line of points given by their x and y."""

SIDE = 32

_MEAN, _DEVIATION = 0.33, 0.19  # fixed: measured on the images asked for, they would change with their number
_SPLIT_PERIOD = 5  # of five successive indices, three are for training, one validates, one is held out
_PROTOTYPE, _IMAGE = 0, 1  # what a generator is for
_PIXEL = 2.0 / SIDE  # images cover the square -1..1
_WAVES = [(i, j) for i in range(4) for j in range(4) if i + j > 0]  # cosines of the elastic jitter
_ELASTICITY = 0.06
_CLUTTER_STROKES = 3

_STYLE = {
    "shift_x": (-0.2, 0.2),
    "shift_y": (-0.2, 0.2),
    "angle": (-0.35, 0.35),
    "shear": (-0.25, 0.25),
    "squeeze_x": (0.8, 1.2),
    "squeeze_y": (0.8, 1.2),
    "width": (0.05, 0.11),
    "paper": (0.1, 0.4),
    "contrast": (0.25, 0.6),
    "grain": (0.02, 0.1),
}
_CLUTTER = {
    "x": (-1.0, 1.0),
    "y": (-1.0, 1.0),
    "angle": (0.0, np.pi),
    "reach": (0.1, 0.5),
    "width": (0.03, 0.08),
    "strength": (0.4, 1.0),
}


def glyphs(
    classes: int = 10, per_class: int = 400, seed: int = 0, cache_dir: Path | str | None = None
) -> ClassificationTask:
    """Glyph images [N, 1, 32, 32] in float32: of each class 3/5 to train on, 1/5 validation, 1/5 held out.

    Drawings are kept under `cache_dir`, else `$PRIMORDIUM_CACHE`, else `~/.cache/primordium`; where that
    cannot be written they are drawn anew each time, with a warning. A larger `per_class` appends to
    every split.

    Raises ConfigError if there are fewer than 2 classes or 5 images a class.
    """
    if classes < 2 or per_class < _SPLIT_PERIOD or seed < 0:
        raise ConfigError(
            f"glyphs: classes={classes}, per_class={per_class}, seed={seed}; there must be at least "
            f"2 classes, {_SPLIT_PERIOD} images of each, and a seed of 0 or more"
        )
    images = _load_or_draw(classes, per_class, seed, cache_dir)
    targets = np.broadcast_to(np.arange(classes, dtype=np.int64), (per_class, classes))
    turn = np.arange(per_class) % _SPLIT_PERIOD

    def split(chosen: NDArray[np.bool_]) -> Split:
        levels = images[chosen].reshape(-1, 1, SIDE, SIDE).astype(np.float32)
        inputs = (levels / np.float32(255) - np.float32(_MEAN)) / np.float32(_DEVIATION)
        return Split(torch.from_numpy(inputs), torch.from_numpy(targets[chosen].reshape(-1)))

    return ClassificationTask(
        f"glyphs{classes}", split(turn < 3), split(turn == 3), split(turn == 4), classes=classes
    )


def draw_class(label: int, count: int, seed: int) -> NDArray[np.uint8]:
    """The first `count` images of one class, [count, 32, 32] in 256 grey levels.

    They are drawn in float64 and rounded to whole levels, so that a machine whose sine differs in
    its last bit still draws the same data.
    """
    draws = [_image_draws(seed, label, index) for index in range(count)]
    style_draws, clutter_draws, waves, grain = (np.stack(part) for part in zip(*draws, strict=True))
    style = _named(style_draws, _STYLE)
    x, y = _prototype_points(style, waves)
    ink = np.zeros_like(x)
    for stroke in _prototype(seed, label):
        np.maximum(ink, _coverage(stroke(x, y), style["width"]), out=ink)
    for stroke_draws in clutter_draws.swapaxes(0, 1):
        np.maximum(ink, _clutter(_named(stroke_draws, _CLUTTER)), out=ink)
    grey = style["paper"] + style["contrast"] * ink + style["grain"] * grain
    levels: NDArray[np.uint8] = np.rint(255 * grey.clip(0, 1)).astype(np.uint8)
    return levels.reshape(-1, SIDE, SIDE)


def _image_draws(seed: int, label: int, index: int) -> tuple[Array, Array, Array, Array]:
    """All the randomness of one image: uniform style and clutter, normal elastic waves and grain."""
    rng = np.random.default_rng((seed, _IMAGE, label, index))
    return (
        rng.random(len(_STYLE)),
        rng.random((_CLUTTER_STROKES, len(_CLUTTER))),
        rng.standard_normal((2, len(_WAVES))),
        rng.standard_normal(SIDE * SIDE),
    )


def _named(uniform: Array, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Array]:
    """Uniform numbers [N, len(ranges)] as named columns [N, 1], each brought to its range."""
    columns = zip(ranges.items(), uniform.T, strict=True)
    return {name: (low + (high - low) * column)[:, None] for (name, (low, high)), column in columns}


def _pixel_centres() -> tuple[Array, Array]:
    """The x and y [1024] of the pixels."""
    centres = (np.arange(SIDE) + 0.5) * _PIXEL - 1
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return x.reshape(-1), y.reshape(-1)


def _prototype_points(style: Mapping[str, Array], waves: Array) -> tuple[Array, Array]:
    """Where in its prototype each pixel of each image looks: x and y, [N, 1024].

    `waves` [N, 2, len(_WAVES)] are the strengths of the smooth displacements of x and y.
    """
    x, y = _pixel_centres()
    cosines = [
        np.cos(np.pi * i * (x + 1) / 2) * np.cos(np.pi * j * (y + 1) / 2) / (i * i + j * j) for i, j in _WAVES
    ]
    jitter = _ELASTICITY * waves @ np.stack(cosines)
    x, y = x - style["shift_x"], y - style["shift_y"]
    x, y = _turned(x, y, style["angle"])
    x, y = style["squeeze_x"] * (x + style["shear"] * y), style["squeeze_y"] * y
    return x + jitter[:, 0], y + jitter[:, 1]


def _prototype(seed: int, label: int) -> list[Stroke]:
    """The strokes of one class: three to five segments, arcs and dots."""
    rng = np.random.default_rng((seed, _PROTOTYPE, label))
    makers = (_random_segment, _random_arc, _random_dot)
    kinds = rng.choice(len(makers), size=rng.integers(3, 6), p=(0.5, 0.35, 0.15))
    return [makers[kind](rng) for kind in kinds]


def _turned(x: Array, y: Array, angle: Number) -> tuple[Array, Array]:
    """Coordinates along and across a direction."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def _random_segment(rng: np.random.Generator) -> Stroke:
    middle, angle, reach = rng.uniform(-0.4, 0.4, 2), rng.uniform(0, np.pi), rng.uniform(0.25, 0.55)
    return partial(_segment_distance, middle=middle, angle=angle, reach=reach)


def _random_arc(rng: np.random.Generator) -> Stroke:
    middle, radius = rng.uniform(-0.35, 0.35, 2), rng.uniform(0.2, 0.45)
    angle, opening = rng.uniform(0, 2 * np.pi), rng.uniform(0.25 * np.pi, 0.95 * np.pi)
    return partial(_arc_distance, middle=middle, radius=radius, angle=angle, opening=opening)


def _random_dot(rng: np.random.Generator) -> Stroke:
    return partial(_dot_distance, middle=rng.uniform(-0.6, 0.6, 2), radius=rng.uniform(0.04, 0.1))


def _segment_distance(x: Array, y: Array, middle: Point, angle: Number, reach: Number) -> Array:
    """Distance to the segment that reaches `reach` from `middle` both ways."""
    along, across = _turned(x - middle[0], y - middle[1], angle)
    beyond = np.maximum(np.abs(along) - reach, 0)
    return np.sqrt(beyond**2 + across**2)


def _arc_distance(x: Array, y: Array, middle: Point, radius: float, angle: float, opening: float) -> Array:
    """Distance to the part of a circle that lies within `opening` of the direction `angle`."""
    along, across = _turned(x - middle[0], y - middle[1], angle)
    from_middle = np.sqrt(along**2 + across**2)
    to_end = np.sqrt(
        (along - radius * np.cos(opening)) ** 2 + (np.abs(across) - radius * np.sin(opening)) ** 2
    )
    return np.where(along >= from_middle * np.cos(opening), np.abs(from_middle - radius), to_end)


def _dot_distance(x: Array, y: Array, middle: Point, radius: float) -> Array:
    """Distance to a disc, negative inside it."""
    from_middle: Array = np.sqrt((x - middle[0]) ** 2 + (y - middle[1]) ** 2)
    return from_middle - radius


def _clutter(stroke: Mapping[str, Array]) -> Array:
    """The ink [N, 1024] of one short straight stroke in each image."""
    x, y = _pixel_centres()
    distance = _segment_distance(
        x, y, middle=(stroke["x"], stroke["y"]), angle=stroke["angle"], reach=stroke["reach"]
    )
    return stroke["strength"] * _coverage(distance, stroke["width"])


def _coverage(distance: Array, half_width: Array) -> Array:
    """How much of a pixel is ink, 0..1: it falls off over one pixel at the edge of a stroke."""
    return (0.5 + (half_width - distance) / _PIXEL).clip(0, 1)


def _load_or_draw(classes: int, per_class: int, seed: int, cache_dir: Path | str | None) -> NDArray[np.uint8]:
    """Images [per_class, classes, 32, 32], from the cache if they are there, whole and up to date."""
    folder = cache_dir or os.environ.get("PRIMORDIUM_CACHE") or Path.home() / ".cache" / "primordium"
    path = Path(folder) / f"glyphs-{classes}x{per_class}-seed{seed}.npz"
    cached = _read(path)
    if cached is not None and _is_current(cached, classes, per_class, seed):
        return cached
    images = np.stack([draw_class(label, per_class, seed) for label in range(classes)], axis=1)
    try:
        _write(path, images)
    except OSError as error:
        warnings.warn(f"glyphs are not kept, since {path} cannot be written: {error}", stacklevel=3)
    return images


def _read(path: Path) -> NDArray[np.uint8] | None:
    """The images in a cache file, or None where it is missing or broken."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            images: NDArray[np.uint8] = archive["images"]
            return images
    except Exception:  # a broken archive can fail in any way; the images are drawn again
        return None


def _is_current(images: NDArray[np.uint8], classes: int, per_class: int, seed: int) -> bool:
    """Whether images have the right shape and the first of each class is what would be drawn today."""
    if images.dtype != np.uint8 or images.shape != (per_class, classes, SIDE, SIDE):
        return False
    return all(np.array_equal(images[:1, label], draw_class(label, 1, seed)) for label in range(classes))


def _write(path: Path, images: NDArray[np.uint8]) -> None:
    """Puts a whole file in place at once, so that no other process reads half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, images=images)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
