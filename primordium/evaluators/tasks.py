"""The tasks by name: built in, and from entry points of the group ``primordium.tasks``."""

from collections.abc import Callable
from typing import Any

from primordium.errors import ConfigError, PluginError
from primordium.evaluators.task import Task
from primordium.plugins.registry import Registry

TaskFactory = Callable[..., Task]


def _factory(entry: object) -> TaskFactory:
    if not callable(entry):
        raise PluginError(f"a task must be a callable that returns one; {entry!r} is not")
    return entry


TASKS: Registry[TaskFactory] = Registry(
    "primordium.tasks",
    contract=_factory,
    builtin={"digits": "primordium.evaluators.digits:digits", "glyphs": "primordium.evaluators.glyphs:glyphs"},
)


def get_task(name: str, **options: Any) -> Task:
    """The task of that name.

    Raises:
        PluginError: there is none of that name.
        ConfigError: it takes no such option.
    """
    try:
        return TASKS.get(name)(**options)
    except TypeError as error:
        raise ConfigError(f"task {name!r} with options {options}: {error}") from error
