"""The tasks by name: built in, and from entry points of the group ``primordium.tasks``."""

from typing import Any

from primordium.evaluators.task import Task
from primordium.plugins.factory import Factory, factories
from primordium.plugins.registry import Registry

TASKS: Registry[Factory[Task]] = Registry(
    "primordium.tasks",
    factories(),
    {
        "digits": "primordium.evaluators.digits:digits",
        "glyphs": "primordium.evaluators.glyphs:glyphs",
        "characters": "primordium.evaluators.characters:characters",
        "cifar10": "primordium.evaluators.vision:cifar10",
        "cifar100": "primordium.evaluators.vision:cifar100",
        "image_folder": "primordium.evaluators.vision:image_folder",
    },
)


def get_task(name: str, **options: Any) -> Task:
    """The task of that name.

    Raises:
        PluginError: there is none of that name.
        ConfigError: it takes no such option.
    """
    return TASKS.get(name).make(where=f"task {name!r}", **options)
