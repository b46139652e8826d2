"""The graph language: what a candidate is."""

from primordium.primitives import along, derived, elementwise, statistics, structural  # noqa: F401  # fill the table
