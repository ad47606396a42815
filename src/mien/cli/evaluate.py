"""``mien evaluate``, ``mien ensemble`` and ``mien compare``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Group, RenderableType
from rich.table import Table
from typer import Argument, Option

from mien.cli import shared
from mien.data import FaceSamples, Split, votes_on
from mien.data.layouts.raw import split_named
from mien.errors import CallError, import_extra
from mien.evaluation import METRICS, robustness, scenes
from mien.evaluation import compare as comparison
from mien.evaluation import evaluate as evaluation
from mien.evaluation.detection import is_detector
from mien.evaluation.ensemble import write_ensemble
from mien.evaluation.majority import always, majority_class
from mien.evaluation.predictor import VIEWS, Predictor, open_predictor
from mien.face.detect import FaceDetector, create_detector
from mien.files import check_folder
from mien.report import comparison_page, run_page
from mien.report import format as formats
from mien.runs import Estimate, Report, Run
from mien.runs.report import is_test

Evaluated = Annotated[
    Path,
    Argument(metavar="RUN|MODEL", help="A run directory, a file of mien export, or the name of a shipped network."),
]
SplitName = Annotated[
    str, Option(metavar="|".join(Split), help="Or train, val, test (all test images). Every look at a test is noted.")
]
Views = Annotated[int, Option(metavar="1|2|10", help="Views of each face, averaged.")]
Target = Annotated[
    Path | None, Option(help="Folder of predictions and report; default: the run's own, of a file none.")
]
PresentOnly = Annotated[bool, Option("--present-only", help="Also measure answers among the classes that faces have.")]
Threshold = Annotated[float | None, Option(help="Of a face detector: least score of a face; default: its own.")]


@dataclass(frozen=True)
class Extras:
    """What is measured of a split on request, beside its metrics."""

    robust: Annotated[bool, Option("--robustness", help="Also measure accuracy under eleven corruptions.")] = False
    in_scenes: Annotated[
        bool, Option("--scenes", help="Also search, crop and name the faces as those of photographs.")
    ] = False
    angle: Annotated[
        list[float] | None, Option(metavar="DEGREES", help="By which --scenes turns the faces; by default 0.")
    ] = None
    detector: shared.Detector = None

    def check(self, split: Split) -> None:
        """Refuse options that do not fit together."""
        if self.robust and split is not Split.VALIDATION:
            raise CallError(
                f"expected --split validation with --robustness, since choices may follow from it, got {split}"
            )
        if not self.in_scenes and (self.angle or self.detector):
            raise CallError("expected --scenes with --angle and --detector, which belong to it, got none; add --scenes")

    def finder(self) -> FaceDetector | None:
        """What searches the scenes, where any are made."""
        return create_detector(self.detector) if self.in_scenes else None

    def measure(
        self, predictor: Predictor, samples: FaceSamples, split: Split, finder: FaceDetector | None, target: Run | None
    ) -> Iterator[tuple[str, object, RenderableType]]:
        """Name, numbers and words of each, which ``target`` keeps."""
        if self.robust:
            report = robustness.measure_robustness(predictor, samples)
            if target is not None:
                robustness.save_robustness(target.path, report)
            yield "robustness", report, _robustness_sentence(report)
        if finder is not None:
            shown = scenes.measure_scenes(predictor, samples, split, finder, self.angle or [0.0])
            if target is not None:
                scenes.save_scenes(target.path, shown)
            yield "scenes", [asdict(each) for each in shown], _scenes_table(shown)


def evaluate(
    model: Evaluated,
    data: shared.Data,
    reading: shared.Reading,
    extras: Extras,
    split: SplitName = "validation",
    views: Views = 1,
    out: Target = None,
    present_only: PresentOnly = False,
    votes: shared.Votes = None,
    metric: shared.Metrics = None,
    accelerator: shared.Accelerator = "auto",
    no_pictures: shared.NoPictures = False,
    threshold: Threshold = None,
    kind: shared.Format = "table",
) -> None:
    """Predict a split with a trained run or an exported file, and print its metrics."""
    if is_detector(model):
        _evaluate_detector(model, data, split, out, threshold, kind)
        return
    chosen = split_named(split)
    extras.check(chosen)
    if views not in VIEWS:
        raise CallError(f"expected --views 1, 2 or 10, got {views}")
    check_folder(out)
    predictor, finder = open_predictor(model, accelerator), extras.finder()
    samples = reading.read(data, predictor.stored, strict=False).with_classes(predictor.report.classes)
    report = evaluation.evaluate_and_store(
        predictor, samples, chosen,
        out=out, command=shared.command_line(), views=views, votes=None if votes is None else votes_on(samples, votes),
        present_only=present_only,
    ).report  # fmt: skip
    elsewhere = report.data_sha256 != predictor.report.data_sha256
    content: dict[str, object] = report.content()["results"]
    texts: list[RenderableType] = [results_table(report)]
    texts += [*run_page.seen_words(report, elsewhere=elsewhere), *run_page.told_words(report)]
    target = evaluation.destination(predictor.run, out)
    if target is None and is_test(chosen):
        shared.messages.print("this look at test images is written down nowhere; --out DIR keeps it, with the answers")
    for name, numbers, words in extras.measure(predictor, samples, chosen, finder, target):
        content, texts = {**content, name: numbers}, [*texts, words]
    if target is not None and predictor.run is not None:
        run_page.write_run_page(target, samples, pictures=not no_pictures)
    shared.print_answer(content, Group(*texts), kind)


def _evaluate_detector(
    model: Path, data: str, split: str, out: Path | None, threshold: float | None, kind: str
) -> None:
    import_extra("torch", "train")
    from mien.cli import detection  # which needs PyTorch, unlike the rest

    check_folder(out)
    detection.evaluate(model, data, split, out=out, threshold=threshold, kind=kind)


def ensemble(
    members: Annotated[list[Path], Argument(metavar="RUN...", help="Run directories, or folders of evaluate --out.")],
    out: Annotated[Path, Option(metavar="DIR", help="Folder for predictions, report and page.")],
    metric: shared.Metrics = None,
    kind: shared.Format = "table",
) -> None:
    """Average what several runs predict; every test split that all of them hold is evaluated, and that is noted."""
    check_folder(out)
    report = write_ensemble(members, out, command=shared.command_line())
    run_page.write_run_page(Run(out), pictures=False)
    shared.print_answer(report.content()["results"], results_table(report), kind)


def compare(
    paths: Annotated[
        list[Path],
        Argument(metavar="RUN|NPZ...", help="Runs, and files with row (N,), label (N,), probabilities (N, K)."),
    ],
    split: Annotated[str | None, Option(help="Of the runs; by default the most final that all have.")] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Write compare.html and compare.json.")] = None,
    metric: shared.Metrics = None,
    kind: shared.Format = "table",
) -> None:
    """Compare stored predictions, ours or another tool's: intervals, tests, and what they allow to say."""
    check_folder(out)
    chosen, entries = comparison.load_entries(paths, split)
    pairs = comparison.compare(entries)
    rows: list[tuple[list[str], Mapping[str, Estimate]]] = [
        ([entry.name, str(len(entry.seeds) or formats.DASH)], entry.metrics) for entry in comparison.ranked(entries)
    ]
    majority = comparison.always_most_frequent(entries)
    always = {"accuracy": majority.accuracy, "macro_f1": majority.macro_f1}
    rows.append(([f"always {majority.name}", formats.DASH], always))
    table = metrics_table(f"{chosen}, {len(entries[0].predictions[0]):,} images", ["predictions", "seeds"], rows)
    text = Group(table, *comparison_page.comparison_words(entries, pairs))
    shared.print_answer(comparison.comparison_rows(chosen, entries, pairs), text, kind)
    if out is not None:
        shared.messages.print(str(comparison_page.write_comparison_page(out, chosen, entries, pairs)))


def results_table(report: Report) -> Table:
    """A line per split and subset, with what answering always with Training's most frequent class reaches there."""
    name = majority_class(report)
    columns, rows = ["split", "images", "views"], []
    for each in report.results:
        always_right = [] if name is None else [always(name, each.counts.sum(1), report.classes).accuracy.value]
        texts = [formats.result_title(each), f"{each.n:,}", str(each.views), *map(formats.percent, always_right)]
        rows.append((texts, each.metrics))
    return metrics_table(None, [*columns, *([] if name is None else [f"always {name}"])], rows)


def metrics_table(
    title: str | None, columns: Sequence[str], rows: Iterable[tuple[Sequence[str], Mapping[str, Estimate]]]
) -> Table:
    """A table of metrics: the columns given, accuracy with its interval, every other metric of ``METRICS``."""
    others = {name: metric for name, metric in METRICS.items() if name != "accuracy"}
    titles = ["accuracy", "95 % interval", *(metric.title for metric in others.values())]
    table = shared.create_table(title, columns[:1], [*columns[1:], *titles])
    for texts, found in rows:
        ci95 = found["accuracy"].ci95
        values = [
            formats.DASH
            if name not in found
            else formats.percent(found[name].value)
            if metric.percent
            else formats.fixed(found[name].value)
            for name, metric in others.items()
        ]
        interval = "" if ci95 is None else formats.interval(ci95)
        table.add_row(*texts, formats.percent(found["accuracy"].value), interval, *values)
    return table


def _scenes_table(results: Sequence[scenes.SceneResult]) -> Table:
    """A line per angle."""
    titles = ["scenes", "found", "accuracy of these", "95 % interval", "as given", "change when moved"]
    table = shared.create_table(f"scenes of {results[0].split}, {results[0].detector}", [], ["turned by", *titles])
    for each in results:
        rates = (
            formats.percent(each.accuracy),
            formats.interval(each.accuracy_ci95),
            formats.percent(each.accuracy_given),
        )
        found, changed = formats.percent(each.found), formats.percent(each.changed)
        table.add_row(f"{each.angle:g} degrees", f"{each.scenes:,}", found, *rates, changed)
    return table


def _robustness_sentence(report: robustness.RobustnessReport) -> str:
    worst = robustness.weakest(report)
    left = formats.percent(report["relative"]), formats.percent(report["corruptions"][worst]["relative"])
    return (
        f"Under {len(robustness.CORRUPTIONS)} corruptions {left[0]} of the accuracy is left on average;"
        f" {robustness.CORRUPTIONS[worst].title.lower()} leaves least, {left[1]}."
    )
