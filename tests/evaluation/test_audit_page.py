"""The audit's page: words first, contact sheets of what was found, faces only where they are wanted."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from mien.data import FaceSamples
from mien.data.audit import audit
from mien.data.samples import Usage
from mien.evaluation.audit_page import write_audit


def test_leaks_are_said_and_shown(tmp_path: Path, drawn: FaceSamples) -> None:
    images, labels = drawn.images.copy(), drawn.labels.copy()
    private, training = (np.flatnonzero(drawn.usages == usage) for usage in (Usage.PRIVATE_TEST, Usage.TRAINING))
    images[private[0]], labels[private[0]] = images[training[0]], (labels[training[0]] + 1) % 7
    images[private[1]] = 7
    spoilt = dataclasses.replace(drawn, images=images, labels=labels)
    votes = np.zeros((len(drawn), 7), np.uint8)
    votes[training[5], (labels[training[5]] + 2) % 7] = 9
    page = write_audit(tmp_path, spoilt, audit(spoilt), votes).read_text()
    assert "1 of 21 PrivateTest pictures (4.8\N{NO-BREAK SPACE}%) stand in Training, 0 of them with the same" in page
    for title in ("Test pictures that stand in Training", "The same picture with different labels",
                  "Pictures that show nothing", "Labels that the voters reject"):  # fmt: skip
        assert title in page
    assert "9 votes for" in page
    shown = page.count("data:image/png;base64")
    assert shown >= 2 + 2 + 1 + 1  # near copies may come on top
    assert json.loads((tmp_path / "audit.json").read_text())["redundant"] == 1

    without = write_audit(tmp_path, spoilt, audit(spoilt), votes, pictures=False).read_text()
    assert "data:image" not in without
    assert str(drawn.rows[private[0]]) in without


def test_clean_faces_have_no_sheets(tmp_path: Path, drawn: FaceSamples) -> None:
    clean = dataclasses.replace(audit(drawn), near=[])
    page = write_audit(tmp_path, drawn, clean).read_text()
    assert "Test pictures that stand in Training" not in page
    assert "FER+" not in page
    assert "Drawn faces, not people" in page
