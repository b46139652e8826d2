"""The contract of plugins that are made with options: tasks, gates, proposers.

An entry point loads a callable, or an iterable of them: a function, or a class whose fields are its options. Its
name is its ``name`` attribute where it has one, else its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from primordium.errors import ConfigError, PluginError

Made = TypeVar("Made")


@dataclass(frozen=True)
class Factory(Generic[Made]):
    """Makes a plugin's object from the options of a configuration."""

    name: str
    build: Callable[..., Made]

    def make(self, *args: Any, where: str, **options: Any) -> Made:
        """The object.

        Args:
            args: what the program itself supplies.
            where: the place in the configuration, for the error message.
            options: what the user set.

        Raises:
            ConfigError: it takes no such options.
        """
        try:
            return self.build(*args, **options)
        except TypeError as error:
            raise ConfigError(f"{where}: {error}") from error


def factories(*needed: str) -> Callable[[object], tuple[Factory[Any], ...]]:
    """The contract: callables that have the attributes ``needed``."""

    def contract(loaded: object) -> tuple[Factory[Any], ...]:
        many = isinstance(loaded, Iterable) and not isinstance(loaded, type | str)
        return tuple(_factory(entry, needed) for entry in (loaded if many else (loaded,)))  # type: ignore[union-attr]

    return contract


def _factory(entry: object, needed: tuple[str, ...]) -> Factory[Any]:
    missing = [name for name in needed if not hasattr(entry, name)]
    if not callable(entry) or missing:
        what = f"has no {', '.join(repr(name) for name in missing)}" if missing else "cannot be called"
        raise PluginError(
            f"{entry!r:.80} {what}; a function or class with {', '.join(needed) or 'options'} is needed"
        )
    return Factory(str(getattr(entry, "name", None) or getattr(entry, "__name__", "")), entry)
