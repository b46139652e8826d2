"""Randomness has a name: every generator of a run is seeded by the run's seed and what it is for."""

from hashlib import blake2b


def derived_seed(seed: int, *names: str | int) -> int:
    """The seed of a named generator: a hash of the run's seed and the names."""
    text = ":".join(str(part) for part in (seed, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "little")


def training_seed(seed: int, *names: str | int) -> int:
    """A derived seed for weights and batches, below 2³¹ as torch's and NumPy's generators take it."""
    return derived_seed(seed, *names) % 2**31


def search_seed(seed: int) -> int:
    """The seed that every candidate of a run is trained with: common random numbers."""
    return training_seed(seed, "search")
