"""Mends of a library's module that wait until somebody imports it: OpenMMLab's take seconds."""

import importlib.abc
import sys
from collections.abc import Callable
from types import ModuleType


def mend_on_import(name: str, mend: Callable[[ModuleType], None]) -> None:
    """Call ``mend(module)`` now, if the module is imported, or as soon as it is, before its importer sees it.

    A mend that finds its work done must leave it at that: this may be called again.
    """
    if name in sys.modules:
        mend(sys.modules[name])
    elif not any(isinstance(finder, _Mender) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Mender(name, mend))


class _Mender(importlib.abc.MetaPathFinder):
    """Lets the usual finders find the module, and mends it once it is loaded."""

    def __init__(self, name: str, mend: Callable[[ModuleType], None]):
        self.name, self.mend = name, mend

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if hasattr(finder, 'find_spec'))
        spec = next((found for found in specs if found is not None), None)
        if spec is not None:
            load = spec.loader.exec_module

            def load_and_mend(module):
                load(module)
                self.mend(module)

            spec.loader.exec_module = load_and_mend
        return spec
