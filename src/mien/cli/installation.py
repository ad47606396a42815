"""``mien models``: the networks that this installation holds."""

from mien.cli import shared
from mien.face import network
from mien.report import format as formats
from mien.runs.report import parse_report


def models(kind: shared.Format = "table") -> None:
    """List the networks in the package: accuracy on FER-2013's PrivateTest, size and speed."""
    cards = {name: network.read_card(path) for name, path in network.shipped_models().items()}
    numbers = ["accuracy", "95 % interval", "unseen", "ECE", "size", "faces/s"]
    table = shared.create_table("Accuracy on PrivateTest, one view", ["name", "licence"], numbers)
    for name, card in cards.items():
        report = parse_report(card, name)
        results = {each.key: each for each in report.results}
        found = results["private_test"]
        table.add_row(
            name,
            report.license,
            formats.percent(found.accuracy.value),
            formats.DASH if found.accuracy.ci95 is None else formats.interval(found.accuracy.ci95),
            formats.percent(results["private_test_unseen"].accuracy.value),
            formats.percent(found.metrics["ece"].value),
            f"{(report.bytes or 0) / 1e6:.1f} MB",
            formats.count(report.faces_per_second),
        )
    shared.print_answer([{"name": name, **card} for name, card in cards.items()], table, kind)
