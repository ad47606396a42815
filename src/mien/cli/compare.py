"""``mien compare``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mien.cli._shared import messages

if TYPE_CHECKING:
    from mien.evaluation.compare import Entry, Pair


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|NPZ...", help="Runs, and files with row (N,), label (N,), probabilities (N, 7)."),
    ],
    split: Annotated[
        str | None, typer.Option("--split", help="Of the runs; by default the most final that all have.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write compare.html and compare.json.")
    ] = None,
) -> None:
    """Compare stored predictions, ours or another tool's: intervals, tests, and what they allow to say."""
    from mien.evaluation.compare import compare as test_pairs
    from mien.evaluation.compare import comparison_rows, load_cards, load_entries
    from mien.evaluation.compare_page import write_comparison

    chosen, entries = load_entries(paths, split)
    pairs = test_pairs(entries)
    rows = comparison_rows(chosen, entries, pairs)
    if sys.stdout.isatty():
        _print(rows, entries, pairs)
    else:
        typer.echo(json.dumps(rows, indent=2))
    if out is not None:
        messages.print(f"{write_comparison(out, rows, entries, pairs, load_cards(paths))}", markup=False)


def _print(rows: dict[str, Any], entries: "list[Entry]", pairs: "list[Pair]") -> None:
    from mien.evaluation.compare import comparison_words

    table = Table(title=f"{rows['split']}, {rows['n']:,} pictures", title_justify="left", box=SIMPLE)
    table.add_column("predictions")
    for column in ("accuracy", "95 % interval", "macro-F1", "ECE", "NLL"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in rows["entries"]:
        low, high = entry["accuracy"]["ci95"]
        table.add_row(
            entry["name"],
            f"{entry['accuracy']['value']:.1%}",
            f"{low:.1%} - {high:.1%}",
            f"{entry['macro_f1']['value']:.3f}",
            f"{entry['ece']['value']:.1%}",
            f"{entry['nll']['value']:.3f}",
        )
    console = Console(highlight=False)
    console.print(table)
    for sentence in comparison_words(entries, pairs):
        console.print(sentence)
