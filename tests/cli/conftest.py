"""What several tests of the command line stand on."""

from pathlib import Path

import pytest
from tests.face.tiny_network import write_network


@pytest.fixture
def options(tmp_path: Path) -> tuple[str, ...]:
    """Faces are whole pictures, and a tiny network names them."""
    return "--detector", "none", "--model", str(write_network(tmp_path / "tiny.onnx"))
