"""``mien export``."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli._shared import LabelMap, SkipBad, SkipUnmapped, messages, read_data

SUFFIX = ".onnx"


def export(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.onnx", help="The file to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="Compute in 8-bit integers; needs --data.")] = False,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SPEC", help="The run's data, to calibrate and judge --int8.")
    ] = None,
    license: Annotated[str, typer.Option("--license", help="Of the file; an SPDX identifier.")] = "Apache-2.0",
    skip_bad: SkipBad = False,
    skip_unmapped: SkipUnmapped = False,
    label_map: LabelMap = None,
) -> None:
    """Write a trained run as one ONNX file that mien and other programs read without PyTorch."""
    from mien.errors import CallError, import_extra
    from mien.runs import load_run

    if int8 != (data is not None):
        raise CallError("--int8 needs --data SPEC, the run's data; without --int8, leave --data out")
    if out.suffix != SUFFIX or out.is_dir():
        raise CallError(f"--out must be a file whose name ends in {SUFFIX}; {out} came")
    loaded = load_run(run)
    loaded.report()  # tells of a run that is not finished before the data are read
    for module in ("torch", "onnx", "onnxscript"):
        import_extra(module, "train")
    from mien.export import export_onnx

    samples = None if data is None else read_data(data, skip_bad, skip_unmapped, label_map)
    written = export_onnx(loaded, out, int8=samples, license=license)
    messages.print(
        f"{out}: {written.size / 1e6:.1f} MB; probabilities of ONNX Runtime and PyTorch differ"
        f" by at most {written.difference:.1e}"
    )
    if written.float32_accuracy is not None and written.int8_accuracy is not None:
        messages.print(
            f"validation accuracy {written.float32_accuracy:.2%} in float32, {written.int8_accuracy:.2%} in int8:"
            f" {100 * (written.int8_accuracy - written.float32_accuracy):+.2f} points"
        )
