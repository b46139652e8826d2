"""The proposers by name: built in, and from entry points of the group ``primordium.proposers``."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from primordium.errors import ConfigError, PluginError
from primordium.plugins.methods import method
from primordium.plugins.registry import Registry
from primordium.search.proposer import Proposer
from primordium.search.space import Space

ProposerFactory: TypeAlias = Callable[..., Proposer]
"""Called with the space, and by keyword with the options of the configuration."""


def _factory(entry: object) -> ProposerFactory:
    if not callable(entry) or not hasattr(entry, "propose"):
        raise PluginError(f"a proposer must be a class with 'propose'; {entry!r} is not")
    return entry


PROPOSERS: Registry[ProposerFactory] = Registry(
    "primordium.proposers",
    contract=_factory,
    builtin={
        "random": "primordium.search.random_search:RandomSearch",
        "evolution": "primordium.search.evolution:Evolution",
    },
)


def make_proposer(name: str, space: Space, options: Mapping[str, Any]) -> Proposer:
    """A proposer with its options; ``warm_start`` names methods, which are put into the space's own terms.

    Raises:
        PluginError: there is no proposer or method of that name.
        ConfigError: it takes no such option, or a method does not fit the space.
    """
    given = dict(options)
    if "warm_start" in given:
        given["warm_start"] = tuple((known, _embedded(space, known)) for known in given["warm_start"])
    try:
        return PROPOSERS.get(name)(space, **given)
    except TypeError as error:
        raise ConfigError(f"proposer {name!r}: {error}") from error


def _embedded(space: Space, name: str) -> Any:
    known = method(name)
    genome = space.embed(known.graph)
    if genome is None:
        raise ConfigError(
            f"proposer.warm_start: {name!r} ({known.graph}) cannot be written in space {space.name!r}: "
            f"it has {space.size} operations among {', '.join(o.op for o in space.operations)}"
        )
    return genome
