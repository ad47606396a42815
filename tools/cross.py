"""Faces that no network of the package learnt from: one look of each network, and what it showed.

    python -m tools.cross ck48=SPEC jaffe=SPEC [--network NAME]...   # looks; writes results/cross/<set>/<network>
    python -m tools.publish                                          # writes results/cross.md, with the other tables

The sets are for testing only: nothing is trained, chosen or calibrated on them, and a network looks at each once. The
rules were fixed before any look: docs/decisions/0025-people-are-what-chance-chose.md.
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from mien.data import FaceSamples, ReadOptions, Split, read_samples
from mien.emotions import EMOTIONS
from mien.errors import CallError, DataError, MienError, look_up
from mien.evaluation.evaluate import evaluate_and_store
from mien.evaluation.people import people_of
from mien.evaluation.predictor import open_predictor
from mien.runs import Report, Run, SplitResult, Subset, load_report
from tools.published import RESULTS, shipped
from tools.tables import render

FOLDER = RESULTS / "cross"
SPLIT = Split.PUBLISHED_TEST.value


@dataclass(frozen=True)
class OtherSet:
    """A set as it is passed around, and how many faces of the seven emotions and people it has."""

    title: str
    faces: int
    people: int


SETS = {"ck48": OtherSet("CK+48", 927, 106), "jaffe": OtherSet("JAFFE", 213, 10)}
"""Folder -> set. CK+48 is the last three frames of each sequence, here without contempt, which no network names."""


@dataclass(frozen=True)
class PublishedFigure:
    """An accuracy that somebody published, in percent, or the range of several networks."""

    trained_on: str
    tested_on: str
    model: str
    percent: str
    source: str


BORGALLI = "Borgalli, Surve 2022, doi:10.5815/ijem.2022.06.05"
CD_FER = "[CD-FER benchmark](https://github.com/HCPLab-SYSU/CD-FER-Benchmark), arXiv:2008.00923"
SURESH = "Suresh, Yeo, Ong 2021, arXiv:2106.15453"
PUBLISHED = (
    PublishedFigure("FER-2013", "CK+", "three CNNs, fine-tuned", "51.0 to 68.8", BORGALLI),
    PublishedFigure("FER-2013", "JAFFE", "three CNNs, fine-tuned", "65.1 to 79.1", BORGALLI),
    PublishedFigure("RAF-DB", "CK+", "ResNet-50 (LPL)", "74.4", CD_FER),
    PublishedFigure("RAF-DB", "JAFFE", "ResNet-50 (LPL)", "53.1", CD_FER),
    PublishedFigure("RAF-DB", "CK+", "MobileNet-v2 (LPL)", "59.7", CD_FER),
    PublishedFigure("RAF-DB", "JAFFE", "MobileNet-v2 (LPL)", "40.4", CD_FER),
    PublishedFigure("RAF-DB", "CK+", "ResNet-50, adapted to CK+ (AGRA)", "85.3", CD_FER),
    PublishedFigure("RAF-DB", "JAFFE", "ResNet-50, adapted to JAFFE (AGRA)", "61.5", CD_FER),
    PublishedFigure("RAF-DB", "FER-2013", "ResNet-50 (LPL)", "55.9", CD_FER),
    PublishedFigure("several sets", "each of twelve, left out", "one CNN, mean", "65.6", SURESH),
)


@dataclass(frozen=True)
class Looked:
    """What a network's only look at a set showed; ``present`` is with answers among the classes that the set has."""

    network: str
    folder: str  # below results/
    other: OtherSet
    report: Report
    result: SplitResult
    present: SplitResult | None


def looked(folder: Path = FOLDER) -> list[Looked]:
    """Every look that is stored, by set and network."""
    found = []
    for name, other in SETS.items():
        for path in sorted(folder.glob(f"{name}/*/report.json")):
            report = load_report(path)
            result = report.result(SPLIT)
            if result is None:
                raise DataError(
                    f"{path}: expected results of {SPLIT}, got {', '.join(report.splits)}; restore the file"
                )
            place = path.parent.relative_to(folder.parent).as_posix()
            present = report.result(SPLIT, Subset.PRESENT)
            found.append(Looked(path.parent.name, place, other, report, result, present))
    return found


def read_set(name: str, spec: str) -> FaceSamples:
    """The faces of a set, those of other classes left out.

    Raises:
        DataError: they are other faces than those that the rules speak of.
    """
    other = SETS[name]
    samples = read_samples(spec, ReadOptions(skip_unmapped=True))
    people = people_of(samples.groups)
    count = 0 if people is None else people.count
    if (len(samples), count) != (other.faces, other.people):
        raise DataError(
            f"{spec}: expected the {other.faces} faces of {other.people} people of {other.title}, got {len(samples)} of"
            f" {count}; give another copy"
        )
    return samples


def look(name: str, samples: FaceSamples, network: str, folder: Path = FOLDER) -> Run:
    """Evaluate a network of the package on a set, once, and write the look down.

    Raises:
        CallError: it has looked before, or an earlier network of its name has; nothing is computed.
    """
    run = Run(folder / name / network)
    predictor = open_predictor(Path(network))
    earlier = {each.sha256 for each in run.looks()}
    if hashlib.sha256(predictor.path.read_bytes()).hexdigest() in earlier:
        raise CallError(
            f"{network}: expected a first look at {SETS[name].title}, got a second; {run.path} holds the first"
        )
    if earlier:
        raise CallError(
            f"{run.path}: expected no look, got that of an earlier {network}; keep it under another name: git mv"
            f" {run.path} {run.path}_earlier"
        )
    command = f"python -m tools.cross {name}=PATH --network {network}"
    evaluate_and_store(predictor, samples, Split(SPLIT), out=run.path, command=command, present_only=True)
    return run


def page(folder: Path = FOLDER) -> str:
    """``results/cross.md``: what all looks that are stored showed, beside published figures."""
    found = looked(folder)
    return render("cross.md.j2", looked=found, sets=list(SETS.values()), published=PUBLISHED, classes=EMOTIONS)


def main() -> None:
    """Parse, look, say where it is written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="+", metavar="NAME=SPEC", help="ck48=SPEC, jaffe=SPEC: as mien's --data")
    parser.add_argument("--network", action="append", help="of the package; by default all")
    call = parser.parse_args()
    try:
        cards = shipped()
        networks = call.network or list(cards)
        for name in networks:
            look_up(cards, name, "network")
        read = {}
        for name, _, spec in (each.partition("=") for each in call.set):
            look_up(SETS, name, "set")
            read[name] = read_set(name, spec)
        for name, samples in read.items():
            for network in networks:
                print(look(name, samples, network).path)
    except MienError as error:
        sys.exit(f"tools.cross: {error}")
    print("Write the table: python -m tools.publish")


if __name__ == "__main__":
    main()
