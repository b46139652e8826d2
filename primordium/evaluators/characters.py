"""Next-character prediction on the text that ships with Python: a causal task without a download."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from primordium.errors import ConfigError
from primordium.evaluators.task import SPLIT_NAMES, Split, accuracy, hash_splits

_SHARES = (0.7, 0.15, 0.15)  # of the text, for train, validation and held-out
_BLOCK = 2000  # least characters of what is dealt to one split or another
_RARE = 50  # characters that occur less often are one symbol
_RUN = 4  # the rules and gaps of tables are cut to this many equal symbols: they are alike in all splits
_LONG_RUN = re.compile(rf"(\W)\1{{{_RUN},}}")


def position_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy over all positions of `outputs` [N, L, V] and `targets` [N, L]."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def position_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """The fraction of positions whose largest output is the target's; a non-finite output is wrong.

    `outputs` is [N, L, V], `targets` is [N, L]; the result is in 0..1.
    """
    return accuracy(outputs.flatten(0, -2), targets.flatten())


@dataclass(frozen=True, eq=False)
class SequenceTask:
    """Token sequences [N, L] in int64, each with the token that follows every position as target [N, L].

    Networks give [N, L, V], and what they give at one position may not depend on later ones. The windows of a
    split follow each other without a gap in the train split, so that its text can be cut anywhere.

    Attributes:
        causal: networks may not look ahead.
    """

    name: str
    train: Split
    validation: Split
    held_out: Split
    classes: int
    causal: ClassVar[bool] = True

    def loss(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """See :func:`position_cross_entropy`."""
        return position_cross_entropy(outputs, targets)

    def metric(self, outputs: Tensor, targets: Tensor, /) -> float:
        """See :func:`position_accuracy`."""
        return position_accuracy(outputs, targets)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example, (length,)."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def tokens(self) -> int:
        """How many different tokens inputs are made of; says that inputs are tokens and no numbers."""
        return self.classes

    @property
    def chance(self) -> float:
        """The metric of guessing: the share of the commonest target of the validation split."""
        targets = self.validation.targets
        return float(targets.flatten().bincount().max()) / targets.numel()

    def batch(self, step: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
        """Inputs [size, L] and targets [size, L] that start anywhere in the training text, by chance.

        A pure function of its arguments.
        """
        text = self.train.inputs.view(-1)
        length = self.input_shape[0]
        starts = np.random.default_rng((seed, step)).integers(0, len(text) - length, (size, 1))
        places = torch.from_numpy(starts + np.arange(length + 1)).to(text.device)
        window = text[places]
        return window[:, :-1], window[:, 1:]

    def fingerprint(self) -> str:
        """A hash of the examples of all splits; name and device are no part of it."""
        return hash_splits(self, str(self.classes))

    def to(self, device: torch.device | str) -> "SequenceTask":
        """The same task with its data on another device, where the network that it trains must be."""
        moved = {name: getattr(self, name).to(device) for name in SPLIT_NAMES}
        return replace(self, **moved)


def characters(length: int = 64, examples: int = 500, seed: int = 0) -> SequenceTask:
    """Windows of `length` characters of Python's help topics (`pydoc_data`), about 350,000 characters.

    Topics repeat each other, so each paragraph counts once. Successive paragraphs make blocks, which `seed`
    deals to the splits: 70 % of the text to train on, with about 15 % each from which `examples` windows
    validate and `examples` are held out. The text is that of the running Python version.

    Raises ConfigError if an argument is out of range, the text too short for it, or not installed.
    """
    if length < 1 or examples < 1 or seed < 0:
        raise ConfigError(
            f"characters: length={length}, examples={examples}, seed={seed}; the least are length 1, "
            "1 example and seed 0"
        )
    paragraphs = help_paragraphs()
    codes = _vocabulary("".join(paragraphs))
    texts = [_encoded(text, codes) for text in _dealt(_blocks(paragraphs), seed)]
    train, validation, held_out = (
        _windows(text, length, limit) for text, limit in zip(texts, (None, examples, examples), strict=True)
    )
    return SequenceTask("characters", train, validation, held_out, classes=len(set(codes.values())))


def help_paragraphs() -> list[str]:
    """The paragraphs of Python's help topics in the order of the topics' names, each once, rules cut short.

    Raises ConfigError if this Python was installed without them.
    """
    try:
        from pydoc_data.topics import topics  # here, because distributors may leave it out
    except ImportError as error:
        raise ConfigError(f"characters: the help topics of Python are not installed: {error}") from error
    found: dict[str, str] = {}
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            text = _LONG_RUN.sub(r"\1" * _RUN, paragraph.strip("\n")) + "\n\n"
            found.setdefault(" ".join(text.split()), text)
    found.pop("", None)
    return list(found.values())


def _blocks(paragraphs: Sequence[str]) -> list[str]:
    """Successive paragraphs joined until a block has its least length."""
    blocks = [""]
    for paragraph in paragraphs:
        if len(blocks[-1]) >= _BLOCK:
            blocks.append("")
        blocks[-1] += paragraph
    return blocks


def _dealt(blocks: Sequence[str], seed: int) -> list[str]:
    """The text of each split: blocks in random order, cut where the shares of the text are reached."""
    shuffled = [blocks[i] for i in np.random.default_rng(seed).permutation(len(blocks))]
    ends = np.array(list(accumulate(map(len, shuffled))))
    cuts = np.searchsorted(ends, np.cumsum(_SHARES)[:-1] * ends[-1]) + 1
    return ["".join(shuffled[a:b]) for a, b in zip((0, *cuts), (*cuts, len(shuffled)), strict=True)]


def _vocabulary(text: str) -> dict[str, int]:
    """A code for each character by its code point; those that are rare share the last."""
    counts = sorted(Counter(text).items())
    common = [character for character, count in counts if count >= _RARE]
    codes = {character: code for code, character in enumerate(common)}
    return {character: codes.get(character, len(common)) for character, _ in counts}


def _encoded(text: str, codes: dict[str, int]) -> NDArray[np.int64]:
    return np.fromiter(map(codes.__getitem__, text), np.int64, len(text))


def _windows(text: NDArray[np.int64], length: int, limit: int | None) -> Split:
    """Windows of a text one after the other, or `limit` of them, spread evenly."""
    count = (len(text) - 1) // length
    if count < max(2, limit or 0):
        raise ConfigError(
            f"characters: a split has {len(text)} characters, which is {count} windows of {length}; "
            "give fewer examples or shorter ones"
        )
    chosen = np.arange(count) if limit is None else np.linspace(0, count - 1, limit).astype(np.int64)
    places = chosen[:, None] * length + np.arange(length)
    return Split(torch.from_numpy(text[places]), torch.from_numpy(text[places + 1]))
