"""The audit's page: numbers, contact sheets of what was found, faces only where they are wanted."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from tests.fake_runs import read_page

from mien.data import FaceSamples
from mien.data.audit import audit
from mien.data.samples import Usage
from mien.report.audit_page import MAX_COPIES, write_audit_page


def test_leaks_are_counted_and_shown(tmp_path: Path, drawn: FaceSamples) -> None:
    images, labels = drawn.images.copy(), drawn.labels.copy()
    private, training = (np.flatnonzero(drawn.usages == usage) for usage in (Usage.PRIVATE_TEST, Usage.TRAINING))
    images[private[0]], labels[private[0]] = images[training[0]], (labels[training[0]] + 1) % 7
    images[private[1]] = 7
    spoilt = dataclasses.replace(drawn, images=images, labels=labels)
    votes = np.zeros((len(drawn), 7), np.uint8)
    votes[training[5], (labels[training[5]] + 2) % 7] = 9
    path = write_audit_page(tmp_path, spoilt, audit(spoilt), votes)
    page, content = read_page(path), json.loads((tmp_path / "audit.json").read_text())
    assert ["PrivateTest", "Training", "1", "0"] in page.rows
    assert {"leaks", "contradictions", "empty", "rejected"} <= set(page.values("id"))
    assert "9\N{NO-BREAK SPACE}votes for" in path.read_text()
    assert len(page.faces) >= 2 + 2 + 1 + 1  # near copies may come on top
    assert content["redundant"] == 1
    assert {"split": "private_test", "also_in": "training", "pictures": 1, "same_label": 0} in content["leaks"]

    without = read_page(write_audit_page(tmp_path, spoilt, audit(spoilt), votes, pictures=False))
    assert not without.faces
    assert any(str(drawn.rows[private[0]]) in row[0].split(", ") for row in without.rows)


def test_clean_faces_have_no_sheets(tmp_path: Path, drawn: FaceSamples) -> None:
    clean = dataclasses.replace(audit(drawn), near=[])
    page = read_page(write_audit_page(tmp_path, drawn, clean))
    assert not page.values("id")
    assert "FER+" not in page.text
    assert "Drawn faces, not people" in page.text


def test_of_many_copies_a_few_are_shown(tmp_path: Path, drawn: FaceSamples) -> None:
    images = drawn.images.copy()
    images[: len(images) // 2] = images[0]
    spoilt = dataclasses.replace(drawn, images=images)
    found = dataclasses.replace(audit(spoilt), near=[])
    page = read_page(write_audit_page(tmp_path, spoilt, found))
    assert len(found.groups[0]) > 100
    assert len(page.faces) <= 3 * MAX_COPIES
