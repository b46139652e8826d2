"""A new package with a plugin of each kind, written from a template: ``primordium plugins new``.

The files of the template end in ``.txt``, so that no tool takes them for code; ``$distribution``, ``$module``
and ``$prefix`` in them stand for the package's own names. ``examples/primordium-smooth`` is one rendered.
"""

import importlib.util
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from keyword import iskeyword
from pathlib import Path
from string import Template

from primordium.errors import PluginError

_DISTRIBUTION = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_FAMILY = "primordium_"


def render(name: str) -> dict[str, str]:
    """The files of a package: path within it → text.

    Args:
        name: the distribution's name, such as ``my-activations``; the module is called alike, and plugins
            begin with it, less a leading ``primordium-``.

    Raises:
        PluginError: the name cannot be that of a distribution and of a module.
    """
    module = _module(name)
    prefix = module.removeprefix(_FAMILY)
    names = {"distribution": name, "module": module, "prefix": prefix if prefix.isidentifier() else module}
    return {
        path.removesuffix(".txt").replace("src/module", f"src/{module}"): Template(text).substitute(names)
        for path, text in _template(files("primordium.plugins").joinpath("template"))
    }


def write_package(name: str, directory: Path) -> list[Path]:
    """Write a package to a directory that is empty or not there; the files written.

    Raises:
        PluginError: the name is no good or that of a module which is there, the directory holds something, or
            it cannot be written.
    """
    texts = render(name)
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise PluginError(f"{str(directory)!r} is there already; give another directory")
        _require_free(_module(name))
        for path, text in texts.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise PluginError(f"{str(directory)!r} cannot be written: {error}") from error
    return [directory / path for path in texts]


def _module(name: str) -> str:
    module = re.sub(r"[-.]", "_", name).lower()
    if not _DISTRIBUTION.fullmatch(name) or not module.isidentifier() or iskeyword(module):
        raise PluginError(
            f"{name!r} cannot name a package: use letters, digits, '-' and '_', beginning with a letter, "
            "and no word of Python; for instance my-activations"
        )
    return module


def _require_free(module: str) -> None:
    """A package of that name would hide an installed module, or be hidden by it."""
    found = importlib.util.find_spec(module)
    if found is not None and found.origin is not None:
        raise PluginError(f"there is a module {module!r} already ({found.origin}); choose another name")


def _template(folder: Traversable, path: str = "") -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _template(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(".txt"):
            yield path + entry.name, entry.read_text(encoding="utf-8")
