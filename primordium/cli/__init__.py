"""The command line. Importing it imports nothing: each command loads what it needs when it runs."""


def main() -> None:
    """Run the command line on the arguments of the process, and exit with its status."""
    from primordium.cli.app import run

    run()
