"""Draw the end of a finished run as it stood on the terminal: python docs/draw_run.py RUN docs/quick.svg"""

import io
import sys

from rich.console import Console

from primordium.cli.gates import ladder_table
from primordium.cli.standings import standings_body
from primordium.results import Run

run = Run(sys.argv[1])
console = Console(record=True, width=150, file=io.StringIO(), markup=False, emoji=False, highlight=False)
console.print(f"$ primordium search {sys.argv[1].rstrip('/').rsplit('/', 1)[-1]}")
console.print(ladder_table(run.ladder()))
for part in standings_body(run.comparison(), "Validation"):
    console.print(part)
console.save_svg(sys.argv[2], title="primordium")
