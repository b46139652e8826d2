"""``primordium presets``."""

from primordium.cli.arguments import Json
from primordium.cli.output import Page, emit, make_table


def presets(json: Json = False) -> None:
    """List the configurations that ship."""
    from primordium.configs import schema

    table = make_table("preset", "candidates", "search", right=("candidates",), folding=("search",))
    data = []
    for name in schema.presets():
        config = schema.load_config(name)
        table.add_row(name, f"{config.candidates:,}", config.description)
        data.append(
            {"name": name, "description": config.description, "config": config.model_dump(mode="json")}
        )
    emit(Page(data, [table]), json)
