"""``mien models``."""

import json
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mien.errors import look_up

FORMATS = ("table", "json")


def models(
    kind: Annotated[str | None, typer.Option("--format", metavar="|".join(FORMATS), help="On stdout.")] = None,
) -> None:
    """List the networks in the package: what they get right, how large and how fast they are."""
    from mien.face.network import model_card, shipped_models

    chosen = kind or ("table" if Console().is_terminal else "json")
    look_up(dict.fromkeys(FORMATS), chosen, "format")
    cards = {name: model_card(path) for name, path in shipped_models().items()}
    if chosen == "json":
        typer.echo(json.dumps([{"name": name, **card} for name, card in cards.items()], indent=2))
    else:
        Console().print(_table(cards))


def _table(cards: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Accuracy on PrivateTest, one view", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("name", "accuracy", "95 % interval", "unseen", "ECE", "size", "faces/s", "licence"):
        table.add_column(column, justify="left" if column in ("name", "licence") else "right", no_wrap=True)
    for name, card in cards.items():
        found, unseen = card["results"]["private_test"], card["results"]["private_test_unseen"]
        low, high = found["accuracy_ci95"]
        table.add_row(
            name,
            f"{found['accuracy']:.1%}",
            f"{low:.1%} - {high:.1%}",
            f"{unseen['accuracy']:.1%}",
            f"{found['ece']:.1%}",
            f"{card['bytes'] / 1e6:.1f} MB",
            f"{card['faces_per_second']:,.0f}",
            card["license"],
        )
    return table
