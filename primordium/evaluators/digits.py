"""Handwritten digits, 1x8x8, as they ship with scikit-learn: the cheapest real images there are."""

import numpy as np
import torch

from primordium.evaluators.task import ClassificationTask, Split, stratified_split

_SPLIT_SEED = 0
_FRACTIONS = (0.555, 0.2225, 0.2225)


def digits() -> ClassificationTask:
    """The 1,797 digits of scikit-learn in a fixed split of about 997 / 400 / 400.

    Inputs [N, 1, 8, 8] are standardized with the mean and deviation of the train split's pixels.
    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    from sklearn.datasets import load_digits  # here, because it takes a second to import

    bunch = load_digits()
    images = bunch.images[:, None].astype(np.float64)
    targets = bunch.target.astype(np.int64)
    parts = stratified_split(targets, _FRACTIONS, _SPLIT_SEED)
    pixels = images[parts[0]]
    standardized = ((images - pixels.mean()) / pixels.std()).astype(np.float32)
    train, validation, held_out = (
        Split(torch.from_numpy(standardized[part]), torch.from_numpy(targets[part])) for part in parts
    )
    return ClassificationTask("digits", train, validation, held_out, classes=10)
