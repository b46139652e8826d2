"""Makes ``tests/helpers`` importable: the suite runs with ``--import-mode=importlib``, which adds no path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
