"""``mien export``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mien.cli import detection, shared
from mien.errors import CallError, DataError, import_extra
from mien.evaluation.detection import is_detector
from mien.export import export_onnx
from mien.recipe import load_recipe
from mien.runs import load_run

SUFFIX = ".onnx"


def export(
    run: Annotated[Path, Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[Path, Option(metavar="FILE.onnx", help="The file to write.")],
    reading: shared.Reading,
    int8: Annotated[bool, Option("--int8", help="Compute in 8-bit integers; needs --data.")] = False,
    data: Annotated[str | None, Option(metavar="SPEC", help="The run's data, to calibrate and judge --int8.")] = None,
    license: Annotated[
        str | None,
        Option(help="SPDX identifier of the file's licence; of your own data none is claimed (NOASSERTION)."),
    ] = None,
    force: Annotated[bool, Option("--force", help="Replace a file that is there.")] = False,
    threshold: Annotated[float | None, Option(help="Of a face detector: least score of a face.")] = None,
    kind: shared.Format = "table",
) -> None:
    """Write a trained run as one ONNX file that mien and other programs read without PyTorch."""
    if int8 != (data is not None):
        raise CallError("--int8 needs --data SPEC, the run's data; without --int8, leave --data out")
    if out.suffix != SUFFIX or out.is_dir():
        raise CallError(f"expected a file whose name ends in {SUFFIX} as --out, got {out}; rename it")
    if out.exists() and not force:
        raise CallError(f"expected a new file as --out, got {out}, which is there; choose another, or add --force")
    loaded = load_run(run)
    if is_detector(run):
        if int8:
            raise CallError("expected a face detector without --int8, which it does not have; leave it out")
        detection.export(loaded, out, threshold=threshold, license=license, kind=kind)
        return
    report = loaded.load_report()  # tells of a run that is not finished before the data are read
    import_extra("onnxscript", "train")  # PyTorch's exporter needs it
    samples = None if data is None else reading.read(data, load_recipe(loaded.recipe_path).data)
    if samples is not None and samples.classes != report.classes:
        raise DataError(
            f"--data: expected the run's own data, {report.data}, with the classes {', '.join(report.classes)}, got"
            f" {samples.name} with {', '.join(samples.classes)}; give what it was trained on"
        )
    written = export_onnx(loaded, out, int8=samples, license=license)
    answer = (
        f"{out}: {written.size / 1e6:.1f} MB; probabilities of ONNX Runtime and PyTorch differ"
        f" by at most {written.difference:.1e}"
    )
    if written.float32_accuracy is not None and written.int8_accuracy is not None:
        answer += (
            f"\nvalidation accuracy {written.float32_accuracy:.2%} in float32, {written.int8_accuracy:.2%} in int8:"
            f" {100 * (written.int8_accuracy - written.float32_accuracy):+.2f} points"
        )
    shared.print_answer({**asdict(written), "path": str(out)}, answer, kind)
