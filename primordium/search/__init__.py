"""Which candidate comes next: proposers, engine, store. Called, it is :func:`primordium.api.search`."""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    # Importing this package binds it to ``primordium.search``, the name of the function on the public face.
    def __call__(self, *args: Any, **options: Any) -> Any:
        from primordium.api import search

        return search(*args, **options)


sys.modules[__name__].__class__ = _Callable
