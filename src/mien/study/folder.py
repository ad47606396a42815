"""What a study directory holds: every finished row in it, whichever call or process trained it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mien.errors import CallError, MissingPathError, RunError
from mien.files import write_text
from mien.runs import Report, Run
from mien.runs.report import parse_report
from mien.study.published import PUBLISHED, deviations, published_row
from mien.study.same_images import misfit


@dataclass(frozen=True)
class LeftOut:
    """A row that is not compared with the others, and why."""

    row: str
    reason: str


@dataclass(frozen=True)
class Study:
    """The finished rows that can be compared, what is left out, and which rows of the call are not finished."""

    reports: tuple[Report, ...]
    left_out: tuple[LeftOut, ...] = ()
    unfinished: tuple[str, ...] = ()


def row_name(report: Report) -> str:
    """The name of a run's directory in a study."""
    return f"{report.recipe}-s{report.seed}"


def gather(folder: Path, rows: Sequence[Run], left_out: Sequence[LeftOut] = ()) -> Study:
    """The finished ones of a call's ``rows``, in their order, then the others in the folder by name.

    Each joins that has results of the same images as those before it; others also have to be called
    ``<recipe>-s<seed>``.

    Raises:
        RunError: a report is damaged.
    """
    reports: list[Report] = []
    missing = {each.row: each for each in left_out}
    others = sorted(path.parent for path in folder.glob("*/report.json") if Run(path.parent) not in rows)
    for run in (*(run for run in rows if run.report_path.exists()), *map(Run, others)):
        report, name = run.load_report(), run.path.name
        reason = misfit(report, reports) if name == row_name(report) else f"its folder is not called {row_name(report)}"
        if reason is None:
            reports.append(report)
            missing.pop(name, None)  # this call cannot train it; it is there
        else:
            missing[name] = LeftOut(name, reason)
    unfinished = (run.path.name for run in rows if not run.report_path.exists() and run.path.name not in missing)
    return Study(tuple(reports), tuple(missing.values()), tuple(unfinished))


def write_study(folder: Path, study: Study, command: str) -> None:
    """Write ``study.json``; rows that re-create a published one also tell in what they differ from it.

    What it says of a search stays.
    """
    search = _content(folder).get("search")
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
    elif study.unfinished:  # a search leaves tries unfinished
        content["unfinished"] = list(study.unfinished)
    _write(folder, content)


def write_search(folder: Path, content: Mapping[str, object]) -> None:
    """Write what ``study.json`` says of a search; its rows stay."""
    _write(folder, {**_content(folder), "search": content})


@dataclass(frozen=True)
class SearchRecord:
    """What ``study.json`` says of a search, by which it is found again: fields of ``search.Search``."""

    recipe: str
    keys: tuple[str, ...]
    seeds: int
    looks_before: int

    def content(self) -> dict[str, object]:
        """As JSON values."""
        return {**asdict(self), "keys": list(self.keys)}


def search_record(folder: Path) -> SearchRecord | None:
    """The record of a folder's search; ``None`` where ``study.json`` tells none, or is not there.

    Raises:
        RunError: it is damaged.
    """
    found = _content(folder).get("search")
    if found is None:
        return None
    try:
        return SearchRecord(str(found["recipe"]), tuple(found["keys"]), int(found["seeds"]), int(found["looks_before"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / "study.json", f"search: {error}") from error


def _content(folder: Path) -> dict[str, Any]:
    """The values of ``study.json``, empty without one."""
    path = folder / "study.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("search", {}), dict):
            raise ValueError("it holds no study")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return content


def _damaged(path: Path, why: object) -> RunError:
    return RunError(f"{path} is damaged: {why}; remove it and run the study again: it goes on")


def _write(folder: Path, content: Mapping[str, object]) -> None:
    write_text(folder / "study.json", json.dumps(content, indent=2) + "\n")


def load_study(folder: Path) -> Study:
    """Read ``study.json``.

    Raises:
        RunError: it is missing or damaged.
    """
    path, content = folder / "study.json", _content(folder)
    if "rows" not in content:
        raise RunError(f"{path}: expected the rows of a study, got none; run the study again: it goes on")
    try:
        reports = tuple(parse_report(row, source=str(path)) for row in content["rows"])
        left_out = tuple(LeftOut(**each) for each in content.get("left_out", ()))
        return Study(reports, left_out, tuple(map(str, content.get("unfinished", ()))))
    except (TypeError, RunError) as error:
        raise _damaged(path, error) from error


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
