"""``mien train`` and ``mien study`` as they are called. What they do is imported with PyTorch, once it is needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mien.cli import shared
from mien.errors import import_extra
from mien.recipe import brought


@dataclass(frozen=True)
class TrainOptions:
    """What ``train`` and ``study`` both take: each field is an option of theirs (``app.spread``)."""

    overrides: Annotated[
        list[str] | None,
        Option("--set", metavar="[ROW:]a.b=v", help="Override a value, of the recipe named ROW."),
    ] = None
    protocol: shared.Protocol = None
    votes: shared.Votes = None
    metric: shared.Metrics = None
    devices: Annotated[int, Option(min=1, help="Processes on this machine.")] = 1
    accelerator: shared.Accelerator = "auto"
    no_pictures: shared.NoPictures = False


@dataclass(frozen=True)
class StudyOptions:
    """What ``study`` takes beside ``TrainOptions``: each field is an option (``app.spread``)."""

    suite: Annotated[
        str | None,
        Option(metavar="NAME|FILE", help=f"{', '.join(brought('suites'))}; or a file."),
    ] = None
    budget: Annotated[
        str | None, Option(metavar="minutes|laptop|gpu|full", help="The suite's settings for some time; see --plan.")
    ] = None
    seeds: Annotated[int | None, Option(min=1, help="Runs of each recipe, seeds 0, 1, ...; 1 or the suite's.")] = None
    final: Annotated[bool, Option("--final", help="Also look at the test splits; noted in looks.jsonl.")] = False
    skip_unavailable: Annotated[
        bool, Option("--skip-unavailable", help="Leave out rows whose weights cannot be had, instead of refusing.")
    ] = False
    grid: Annotated[
        list[str] | None,
        Option(metavar="a.b=v,w", help="Try every combination of these values, and choose one on validation."),
    ] = None
    halving: Annotated[
        bool, Option("--halving", help="Of a grid, train the better half on at each of some epochs.")
    ] = False
    max_tries: Annotated[int | None, Option(min=1, help="Combinations of a grid at most; 64 unless given.")] = None
    plan: Annotated[bool, Option("--plan", help="Say what would be trained, and in which time; train nothing.")] = False


def train(
    recipe: Annotated[str, Argument(metavar="RECIPE", help="A TOML file, or the name of a recipe that mien brings.")],
    data: shared.Data,
    reading: shared.Reading,
    options: TrainOptions,
    out: Annotated[Path, Option(metavar="DIR", help="The run directory.")],
    resume: Annotated[bool, Option("--resume", help="Go on where the run directory stands.")] = False,
    kind: shared.Format = "table",
) -> None:
    """Train one recipe and store its weights, validation predictions and report."""
    import_extra("torch", "train")
    from mien.cli.train import train as work

    work(recipe, data, reading, options, out, resume, kind)


def study(
    options: TrainOptions,
    what: StudyOptions,
    reading: shared.Reading,
    data: Annotated[str | None, Option(metavar="SPEC", help="As train's; --plan needs none.")] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="The study directory; --plan needs none.")] = None,
    recipes: Annotated[
        list[str] | None, Argument(metavar="[RECIPE]...", help="TOML files or names; beside --suite, further rows.")
    ] = None,
    kind: shared.Format = "table",
) -> None:
    """Train and compare several recipes; run it again to go on where it was."""
    import_extra("torch", "train")
    from mien.cli.study import study as work

    work(options, what, reading, data, out, recipes or [], kind)
