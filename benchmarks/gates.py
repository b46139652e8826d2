"""What every gate costs, kills and gets wrong, on 20,000 random graphs of EvoNorm's space.

    python benchmarks/gates.py [--raw 20000] [--audit 0.3] [--workers 2] [--run DIRECTORY]

A real search with the proposer ``random``: raw graphs are screened until there are so many, survivors are
trained gate by gate, and a share of the training goes to killed candidates, drawn by gate. Prints the account
that ``primordium gates`` prints of any run. Times are those of the workers, side by side on one machine.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import torch

from primordium.cli.gates import gates_page
from primordium.cli.output import print_parts
from primordium.configs.schema import check_config
from primordium.search.progress import RESULT, Progress
from primordium.search.store import Event
from primordium.session import start

CONFIG = {
    "space": "evonorm_b",
    "groups": 4,
    "training": {"steps": 100, "lr": 0.1},
    "proposer": {"name": "random"},
    "batch": 4,
    "window": 8,
    "final": {"finalists": 1, "seeds": 3, "most_seeds": 3, "baselines": ["bn_relu"]},
}


class Enough(Exception):
    """So many raw graphs have been screened, and what they brought is trained."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--raw", type=int, default=20_000)
    parser.add_argument("--audit", type=float, default=0.3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()

    def stop(event: Event, progress: Progress) -> None:
        if progress.raw >= arguments.raw and event.kind == RESULT:
            raise Enough

    data = {
        **CONFIG,
        "candidates": arguments.raw,
        "audit": arguments.audit,
        "executor": {"kind": "processes", "workers": arguments.workers},
    }
    print(f"# {platform.processor() or platform.machine()}, torch {torch.__version__}, one thread a worker")
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or Path(folder) / "run"
        try:
            start(check_config(data, "the benchmark"), run, observer=stop)
        except Enough:
            print_parts(gates_page(str(run)).body)


if __name__ == "__main__":
    main()
