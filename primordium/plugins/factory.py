"""The contract of plugins that are made with options: tasks, gates, proposers.

An entry point loads a callable, or an iterable of them: a function, or a class whose fields are its options.
Its name is its ``name`` attribute where it has one, else its own. What its signature annotates is checked
before it is called.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from primordium.errors import ConfigError, PluginError

Made = TypeVar("Made")

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_CHECKS = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Factory(Generic[Made]):
    """Makes a plugin's object from the options of a configuration."""

    name: str
    build: Callable[..., Made]

    def required(self, supplied: int = 0) -> tuple[str, ...]:
        """The options that have no default, after those that the program supplies."""
        try:
            parameters = list(signature(self.build).parameters.values())[supplied:]
        except (ValueError, TypeError):  # a builtin
            return ()
        return tuple(p.name for p in parameters if p.kind in _NAMED and p.default is Parameter.empty)

    def make(self, *args: Any, where: str, **options: Any) -> Made:
        """The object.

        Args:
            args: what the program itself supplies.
            where: the place in the configuration, for the error message.
            options: what the user set.

        Raises:
            ConfigError: it takes no such option, or not with that value.
        """
        known = _parameters(self.build, len(args))
        if known is not None:
            options = {name: _checked(known, name, options[name], where) for name in options}
        try:
            return self.build(*args, **options)
        except TypeError as error:
            raise ConfigError(f"{where}: {error}") from error


def _parameters(build: Callable[..., object], supplied: int) -> Mapping[str, Any] | None:
    """The annotations of what a user may set by name; ``None`` where anything goes or nothing is known."""
    try:
        parameters = list(signature(build, eval_str=True).parameters.values())
    except (ValueError, TypeError, NameError):  # a builtin, or annotations for the type checker alone
        return None
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        return None
    return {p.name: p.annotation for p in parameters[supplied:] if p.kind in _NAMED}


def _checked(known: Mapping[str, Any], name: str, value: Any, where: str) -> Any:
    """A value as its annotation wants it: a list of YAML becomes a tuple, a whole number a float."""
    if name not in known:
        raise ConfigError(f"{where}: unknown option {name!r}; options: {', '.join(known) or 'none'}")
    if known[name] is Parameter.empty:
        return value
    try:
        return TypeAdapter(known[name], config=_CHECKS).validate_python(value)
    except PydanticUserError:  # an annotation that pydantic cannot check
        return value
    except ValidationError as error:
        raise ConfigError(f"{where}: {name} is {value!r}: {error.errors()[0]['msg']}") from None


def factories(*needed: str) -> Callable[[object], tuple[Factory[Any], ...]]:
    """The contract: callables that have the attributes ``needed``."""

    def contract(loaded: object) -> tuple[Factory[Any], ...]:
        if isinstance(loaded, Iterable) and not isinstance(loaded, type | str):
            return tuple(_factory(entry, needed) for entry in loaded)
        return (_factory(loaded, needed),)

    return contract


def _factory(entry: object, needed: tuple[str, ...]) -> Factory[Any]:
    missing = [name for name in needed if not hasattr(entry, name)]
    if not callable(entry) or missing:
        what = f"has no {', '.join(repr(name) for name in missing)}" if missing else "cannot be called"
        raise PluginError(
            f"{entry!r:.80} {what}; a function or class with {', '.join(needed) or 'options'} is needed"
        )
    return Factory(str(getattr(entry, "name", None) or getattr(entry, "__name__", "")), entry)
