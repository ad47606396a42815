"""What a study directory holds: every finished row in it, whichever call or process trained it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mien.errors import CallError, MissingPathError, RunError
from mien.files import write_text
from mien.runs import Report, Run
from mien.runs.report import common_split, is_test, parse_report
from mien.study.published import PUBLISHED, deviations, published_row


@dataclass(frozen=True)
class LeftOut:
    """A row that is not compared with the others, and why."""

    row: str
    reason: str


@dataclass(frozen=True)
class Study:
    """The finished rows that can be compared, and what is left out."""

    reports: tuple[Report, ...]
    left_out: tuple[LeftOut, ...] = ()


def row_name(report: Report) -> str:
    """The name of a run's directory in a study."""
    return f"{report.recipe}-s{report.seed}"


def gather(folder: Path, rows: Sequence[Run], left_out: Sequence[LeftOut] = ()) -> Study:
    """The finished ones of a call's ``rows``, in their order, then the others in the folder by name.

    Others join that are called ``<recipe>-s<seed>``, learnt from the same data and have a split in common.

    Raises:
        RunError: a report is damaged.
    """
    reports = [run.load_report() for run in rows if run.report_path.exists()]
    missing = list(left_out)
    others = sorted(path.parent for path in folder.glob("*/report.json") if Run(path.parent) not in rows)
    for path in others:
        report = Run(path).load_report()
        reason = _misfit(path.name, report, reports[:1])
        if reason is None:
            reports.append(report)
            missing = [each for each in missing if each.row != path.name]  # this call cannot train it; it is there
        else:
            missing.append(LeftOut(path.name, reason))
    return Study(tuple(reports), tuple(missing))


def _misfit(name: str, report: Report, first: Sequence[Report]) -> str | None:
    """Why a finished run in a study's folder is none of its rows, or ``None``."""
    if name != row_name(report):
        return f"its folder is not called {row_name(report)}"
    for other in first:
        if report.data_sha256 != other.data_sha256:
            return f"it is of other data: {report.data}, content hash {str(report.data_sha256)[:12]}"
        if report.protocol != other.protocol and not _share_test(report, other):
            return f"its protocol is {report.protocol}, which validates on other images"
    return None


def _share_test(*reports: Report) -> bool:
    try:
        return is_test(common_split(reports))
    except RunError:
        return False


def write_study(folder: Path, study: Study, command: str) -> None:
    """Write ``study.json``; rows that re-create a published one also tell in what they differ from it.

    What it says of a search stays.
    """
    search = search_record(folder)
    rows = [report.content() for report in study.reports]
    content: dict[str, object] = {"published": PUBLISHED, "command": command, "rows": rows}
    known = [report for report in study.reports if published_row(report) is not None]
    found = {row_name(report): deviations(Run(folder / row_name(report)), report) for report in known}
    if found:
        content["deviations"] = {row: [asdict(each) for each in differing] for row, differing in found.items()}
    if study.left_out:
        content["left_out"] = [asdict(each) for each in study.left_out]
    if search is not None:
        content["search"] = search
    _write(folder, content)


def write_search(folder: Path, content: Mapping[str, object]) -> None:
    """Write what ``study.json`` says of a search; its rows stay."""
    _write(folder, {**_content(folder), "search": content})


def search_record(folder: Path) -> Mapping[str, Any] | None:
    """What ``study.json`` says of a search; ``None`` where it says nothing, or is not there.

    Raises:
        RunError: it is damaged.
    """
    found: Mapping[str, Any] | None = _content(folder).get("search")
    return found


def _content(folder: Path) -> dict[str, Any]:
    """The values of ``study.json``, empty without one."""
    path = folder / "study.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("search", {}), dict):
            raise ValueError("it holds no study")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; remove it and run the study again: it goes on") from error
    return content


def _write(folder: Path, content: Mapping[str, object]) -> None:
    write_text(folder / "study.json", json.dumps(content, indent=2) + "\n")


def load_study(folder: Path) -> Study:
    """Read ``study.json``.

    Raises:
        RunError: it is missing or damaged.
    """
    path = folder / "study.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        reports = tuple(parse_report(row, source=str(path)) for row in content["rows"])
        return Study(reports, tuple(LeftOut(**each) for each in content.get("left_out", ())))
    except (OSError, ValueError, KeyError, TypeError, RunError) as error:
        raise RunError(f"{path}: expected the rows of a study, got {error}; run the study again: it goes on") from error


@dataclass(frozen=True)
class FoundRuns:
    """Runs that paths named, or that lay in folders which they named, and what of these is no training."""

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...] = ()


def collect(paths: Sequence[Path], out: Path) -> FoundRuns:
    """The finished runs at paths, or one level below them, each once; for a page in the folder ``out``.

    Raises:
        MissingPathError: no such path.
        RunError: one holds no finished run.
        CallError: ``out`` holds finished runs that are not among them, which its page would no longer name.
    """
    found: dict[Path, Run] = {}
    left_out: list[LeftOut] = []
    for path in paths:
        if not path.is_dir():
            raise MissingPathError(f"expected a run, or a folder with runs, got {path}; check the path")
        if Run(path).report_path.exists():
            found.setdefault(path.resolve(), Run(path))
            continue
        below = [Run(report.parent) for report in sorted(path.glob("*/report.json"))]
        if not below:
            raise RunError(
                f"{path} holds no finished run: expected report.json in it, or in a folder in it; train one first, or"
                " check the path"
            )
        for run in below:
            if run.load_report().seed is None:
                left_out.append(LeftOut(str(run.path), "it is an ensemble or an exported network, not a training"))
            else:
                found.setdefault(run.path.resolve(), run)
    others = [str(each.parent) for each in sorted(out.glob("*/report.json")) if each.parent.resolve() not in found]
    missed = [path for path in others if path not in {each.row for each in left_out}]
    if missed:
        raise CallError(
            f"{out}: expected a folder without further runs, got {', '.join(missed)}; give these too, or choose another"
            " --out"
        )
    return FoundRuns(tuple(found.values()), tuple(left_out))
