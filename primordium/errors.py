"""The errors that Primordium raises for the person who made them.

Every message says what is wrong, where, and what would be right. The command line prints them
without a traceback and exits with status 2.
"""


class PrimordiumError(Exception):
    """Base of every error that a user can cause and mend."""


class GraphError(PrimordiumError):
    """A graph is malformed: it does not type, does not parse, or leaves its domain."""


class ConfigError(PrimordiumError):
    """A configuration names an unknown key or holds a value that cannot be used."""


class PluginError(PrimordiumError):
    """A plugin cannot be loaded, has a name that is taken, or fails its conformance check."""


class StoreError(PrimordiumError):
    """A run cannot be read or written: missing, locked, full disk, other version, broken log."""
