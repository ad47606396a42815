"""``mien study``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mien.cli._shared import (
    Accelerator,
    Data,
    Devices,
    LabelMap,
    NoPictures,
    Overrides,
    SkipBad,
    SkipUnmapped,
    Votes,
    catching_signals,
    check_accelerator,
    command_line,
    messages,
    read_data,
    showing_progress,
)
from mien.errors import CallError, Interrupted, import_extra

if TYPE_CHECKING:
    from mien.recipe import Recipe


def study(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The study directory.")],
    recipes: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE]...", help="TOML files or names.")] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", metavar="NAME", help="published, controlled, transfer, ablation or smoke.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each recipe, seeds 0, 1, ...")] = 1,
    protocol: Annotated[str | None, typer.Option("--protocol", metavar="contest|published")] = None,
    final: Annotated[bool, typer.Option("--final", help="Also look at the test splits; noted in looks.jsonl.")] = False,
    overrides: Overrides = None,
    votes: Votes = None,
    devices: Devices = 1,
    accelerator: Accelerator = "auto",
    skip_bad: SkipBad = False,
    skip_unmapped: SkipUnmapped = False,
    label_map: LabelMap = None,
    no_pictures: NoPictures = False,
) -> None:
    """Train and compare several recipes; run it again to go on where it was."""
    import_extra("pydantic", "train")
    from mien.data import votes_on
    from mien.study import run_study
    from mien.training import is_first_process

    values = [*(overrides or ()), *([f"data.protocol={protocol}"] if protocol else [])]
    chosen = _recipes(recipes or [], suite, seeds, values)
    accelerator = check_accelerator(accelerator)
    samples = read_data(data, skip_bad, skip_unmapped, label_map)
    with catching_signals() as stop_signal, showing_progress() as show:
        try:
            done = run_study(
                chosen,
                samples,
                out,
                final=final,
                pictures=not no_pictures,
                devices=devices,
                accelerator=accelerator,
                command=command_line(),
                votes=None if votes is None else votes_on(samples, votes),
                show=lambda run, progress: show(run.path.name, progress),
                stop_signal=stop_signal,
            )
        except Interrupted as stopped:
            again = shlex.join(["mien", *sys.argv[1:]])
            raise Interrupted(f"{stopped}; go on with: {again}", stopped.signal_number) from None
    if not is_first_process():
        return
    Console().print(_table(done))
    messages.print(f"{out / 'index.html'}", markup=False)


def _recipes(names: list[str], suite: str | None, seeds: int, overrides: list[str]) -> "list[Recipe]":
    from mien.recipe import load_recipe
    from mien.study import SUITES, find_recipe, suite_recipes

    if bool(names) == (suite is not None):
        raise CallError(f"give recipes, or --suite {', '.join(SUITES)}")
    if any(override.partition("=")[0].strip() == "seed" for override in overrides):
        raise CallError("a study takes seeds 0, 1, ...: say how many with --seeds; mien train takes --set seed=N")
    paths = suite_recipes(suite) if suite is not None else [find_recipe(name) for name in names]
    recipes = [load_recipe(path, [*overrides, f"seed={seed}"]) for path in paths for seed in range(seeds)]
    if len({(recipe.name, recipe.seed) for recipe in recipes}) < len(recipes):
        raise CallError("recipes of a study need different names; two came with the same")
    return recipes


def _table(done: dict[str, Any]) -> Table:
    """The comparison in short, on the test pictures where they were looked at, beside FER-2013's published figures."""
    final = all("published_test" in row["results"] for row in done["rows"])
    split = "published_test" if final else "validation"
    table = Table(title=f"Accuracy on {split}", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    for column in ("accuracy", "95 % interval", "unseen", "published", "F1", "minutes"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in done["rows"]:
        found, unseen = row["results"][split], row["results"].get(f"{split}_unseen")
        low, high = found["accuracy_ci95"]
        published = done["published"]["rows"].get(row["recipe"]) if final and row["data"] == "fer2013" else None
        table.add_row(
            f"{row['recipe']}-s{row['seed']}",
            f"{found['accuracy']:.1%}",
            f"{low:.1%} - {high:.1%}",
            f"{unseen['accuracy']:.1%}" if unseen else "-",
            f"{published['accuracy']:.1%}" if published else "-",
            f"{found['macro_f1']:.3f}",
            f"{row['train_seconds'] / 60:.1f}",
        )
    return table
