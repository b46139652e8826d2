"""Tests of plugins that are made with options: what is taken, converted, refused, and in which words."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from primordium.errors import ConfigError, PluginError
from primordium.plugins.factory import Factory, factories


@dataclass(frozen=True)
class Widget:
    """A plugin whose fields are its options."""

    name: ClassVar[str] = "widget"
    size: int = 1
    share: float = 0.5
    rule: Literal["fast", "slow"] = "fast"
    parts: tuple[str, ...] = ()
    steps: Annotated[int, Field(ge=1)] = 3
    hook: "Path | None" = None


def gadget(base: int, scale: float, untyped=None) -> tuple[object, ...]:  # type: ignore[no-untyped-def]
    """A plugin that is a function; one argument comes from the program, one annotation is missing."""
    return base, scale, untyped


def anything(**options: Any) -> dict[str, Any]:
    """A plugin that takes whatever it is given."""
    return options


def make(build: Callable[..., Any], *args: object, **options: object) -> Any:
    """What a factory makes of options."""
    return Factory("x", build).make(*args, where="here", **options)


# ----------------------------------------------------------------------------------------------------- making


def test_options_of_yaml_become_what_is_annotated() -> None:
    """Lists become tuples, whole numbers floats, words of numbers numbers; what is right stays as it is."""
    made = make(Widget, size=2, share=1, rule="slow", parts=["a", "b"], hook="x/y")
    assert made == Widget(2, 1.0, "slow", ("a", "b"), 3, Path("x/y"))
    assert isinstance(made.share, float)
    assert make(Widget, share="1e-3").share == 1e-3
    assert make(Widget) == Widget()


def test_what_is_not_annotated_is_passed_on() -> None:
    """No annotation, or one that cannot be read, asks for nothing."""

    class Sealed:
        def __init__(self, value: "NoSuchType") -> None:  # type: ignore[name-defined]  # noqa: F821
            self.value = value

    marker = object()
    assert make(gadget, 1, scale=2, untyped=marker) == (1, 2.0, marker)
    assert make(Sealed, value=marker).value is marker
    assert make(anything, a=1, b=[2]) == {"a": 1, "b": [2]}
    assert make(dict, a=1) == {"a": 1}


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (Widget, {"sice": 2}, "here: unknown option 'sice'; options: size, share, rule, parts, steps, hook"),
        (Widget, {"size": "big"}, "here: size is 'big': Input should be a valid integer"),
        (Widget, {"size": 1.5}, "here: size is 1.5: Input should be a valid integer"),
        (Widget, {"size": None}, "here: size is None: Input should be a valid integer"),
        (Widget, {"share": float("inf")}, "here: share is inf: Input should be a finite number"),
        (Widget, {"rule": "medium"}, "here: rule is 'medium': Input should be 'fast' or 'slow'"),
        (Widget, {"parts": "abc"}, "here: parts is 'abc': Input should be a valid tuple"),
        (Widget, {"steps": 0}, "here: steps is 0: Input should be greater than or equal to 1"),
        (list, {"a": 1}, "here: unknown option 'a'; options: none"),
    ],
)
def test_wrong_options_name_place_key_and_value(
    build: Callable[..., Any], options: dict[str, object], message: str
) -> None:
    """What a user set wrong is an error about the configuration, and about nothing inside the plugin."""
    with pytest.raises(ConfigError, match=message):
        make(build, **options)


def test_what_the_program_supplies_is_no_option() -> None:
    """A user cannot set, and is not told of, the arguments that the program gives."""
    with pytest.raises(ConfigError, match="unknown option 'base'; options: scale, untyped"):
        make(gadget, 1, base=2)
    with pytest.raises(ConfigError, match=r"here: .*missing 1 required positional argument: 'scale'"):
        make(gadget, 1)
    with pytest.raises(ConfigError, match="unknown option 'x'; options: none"):
        make(lambda: None, x=1)


def test_a_plugins_own_errors_are_its_own() -> None:
    """Only what looks like a wrong call is taken for a wrong option."""

    def picky(size: int) -> None:
        raise ConfigError(f"size {size} is unlucky")

    def broken(size: int) -> None:
        raise ZeroDivisionError(size)

    with pytest.raises(ConfigError, match=r"^size 13 is unlucky$"):
        make(picky, size=13)
    with pytest.raises(ZeroDivisionError):
        make(broken, size=13)


# -------------------------------------------------------------------------------------------------- contracts


def names(loaded: object, *needed: str) -> list[str]:
    """The names of the factories that a contract makes of what an entry point loaded."""
    return [factory.name for factory in factories(*needed)(loaded)]


def test_a_factory_is_called_by_its_name() -> None:
    """The name attribute, or else the name of the function or class; one entry or many."""

    class Nameless:
        pass

    assert names(Widget) == ["widget"]
    assert names(gadget) == ["gadget"]
    assert names(Nameless) == ["Nameless"]
    assert names([Widget, gadget]) == names((Widget, gadget)) == ["widget", "gadget"]
    assert names([]) == []


@pytest.mark.parametrize(
    ("loaded", "needed", "message"),
    [
        (7, (), "^7 cannot be called; a function or class with options is needed"),
        ("widget", (), "'widget' cannot be called"),
        ([Widget, 7], (), "^7 cannot be called"),
        (gadget, ("check", "name"), "has no 'check', 'name'; a function or class with check, name is needed"),
        (Widget, ("check", "name"), "has no 'check'; a function"),
        (None, (), "None cannot be called"),
    ],
)
def test_what_is_no_plugin_is_refused(loaded: object, needed: tuple[str, ...], message: str) -> None:
    """A package that declares the wrong thing is told what would be right."""
    with pytest.raises(PluginError, match=message):
        factories(*needed)(loaded)


def test_what_has_no_default_is_required() -> None:
    """Whoever makes a plugin without options knows beforehand whether that can be."""
    assert Factory("x", gadget).required() == ("base", "scale")
    assert Factory("x", gadget).required(supplied=1) == ("scale",)
    assert Factory("x", Widget).required() == ()
    assert Factory("x", anything).required() == ()
    assert Factory("x", dict).required() == ()
