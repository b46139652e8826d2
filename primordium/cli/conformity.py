"""The conformance check of ``primordium plugins check``, for one entry, a package or everything."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from primordium.cli.output import Page, make_table
from primordium.cli.problems import REGISTRIES, skipped_plugins
from primordium.errors import PluginError
from primordium.plugins.conformance import check_method, check_primitive
from primordium.plugins.methods import METHODS
from primordium.plugins.registry import BUILTIN
from primordium.primitives.primitive import PRIMITIVES


class Check(NamedTuple):
    """One thing to check; ``run`` gives its problems, none where it is sound."""

    kind: str
    name: str
    package: str
    run: Callable[[], list[str]]


def check_page(name: str | None) -> tuple[Page, bool]:
    """Check what a name stands for, or everything; the page, and whether all of it is sound.

    Args:
        name: a method or its alias, a primitive, or the distribution that brings plugins.

    Raises:
        PluginError: the name stands for nothing.
    """
    chosen = [check for check in _checks() if name is None or _meant(check, name)]
    if not chosen:
        raise PluginError(
            f"{name!r} is no method, no primitive, and no installed package that brings plugins; "
            "`primordium plugins list` shows what there is"
        )
    table = make_table("kind", "name", "package", "problems", folding=("problems",))
    data = []
    for check in chosen:
        problems = check.run()
        table.add_row(check.kind, check.name, check.package, "\n".join(problems) or "none")
        data.append({"kind": check.kind, "name": check.name, "package": check.package, "problems": problems})
    failed = sum(bool(entry["problems"]) for entry in data)
    summary = f"{len(data)} checked, {failed} with problems"
    return Page({"checked": data, "sound": not failed}, [table, summary]), not failed


def _meant(check: Check, name: str) -> bool:
    if check.kind == "method" and name in METHODS.get(check.name).aliases:
        return True
    return name in (check.name, check.package)


def _checks() -> Iterator[Check]:
    """Every method, every primitive, and every plugin that was skipped, which has failed already."""
    for method in METHODS:
        package = METHODS.origin(method.name).distribution
        yield Check("method", method.name, package, partial(check_method, method))
    added = REGISTRIES["primitives"]
    for name, primitive in PRIMITIVES.items():
        package = added.origin(name).distribution if name in added.names() else BUILTIN
        yield Check("primitive", name, package, partial(check_primitive, primitive))
    for kind, problem in skipped_plugins():
        found: partial[list[str]] = partial(list, [problem.reason])
        yield Check(f"skipped {kind}", problem.plugin, problem.distribution, found)
