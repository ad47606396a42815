"""Take blocks out of a trained compact residual network, for a smaller one to begin with what is left of its weights.

    python -m tools.shorten RUN DEPTHS OUT.ckpt    # such as: runs/release/member-s1 1,1,2 runs/short.ckpt

The first blocks of each stage stay, as many as DEPTHS says. A block adds to what its shortcut passes on, so a network
without it still answers, worse, and some passes of training mend it: mien train RECIPE --set model.weights=OUT.ckpt.

Source: Veit, Wilber, Belongie 2016, arXiv:1605.06431, which took single blocks out of trained residual networks.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.errors import MienError, ModelError
from mien.models import create_classifier, model_defaults
from mien.runs import load_run
from mien.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

STAGES = re.compile(r"model\.stages\.(\d+)\.")


def shortened(checkpoint: Checkpoint, depths: Sequence[int]) -> Checkpoint:
    """The same network with fewer blocks.

    Raises:
        ModelError: it is another kind of network, or has fewer blocks.
    """
    recipe, model = checkpoint.recipe, checkpoint.recipe.model
    if model.name != "compact_resnet":
        raise ModelError(f"expected a run of a compact_resnet, got one of {model.name}; choose another run")
    resolved: dict[str, Any] = model_defaults(model) | model.options
    before = list(resolved["depths"])
    if len(before) != len(depths) or not all(1 <= few <= many for few, many in zip(depths, before, strict=True)):
        raise ModelError(f"expected depths of 1 to {before}, got {list(depths)}; keep a block of each stage")
    starts = [sum(before[:stage]) for stage in range(len(before))]
    source = [start + block for start, depth in zip(starts, depths, strict=True) for block in range(depth)]
    shorter = model.model_copy(update={"options": model.options | {"depths": list(depths)}})
    names = create_classifier(shorter, len(checkpoint.labels), votes=recipe.votes_outputs()).state_dict()
    weights = {
        name: checkpoint.weights[STAGES.sub(lambda found: f"model.stages.{source[int(found[1])]}.", name)]
        for name in names
    }
    return Checkpoint(recipe.model_copy(update={"model": shorter}), weights)


if __name__ == "__main__":
    if len(sys.argv) != 4 or not re.fullmatch(r"\d+(,\d+)*", sys.argv[2]) or not sys.argv[3].endswith(".ckpt"):
        sys.exit(__doc__)
    try:
        run, out = load_run(Path(sys.argv[1])), Path(sys.argv[3])
        kept = [int(depth) for depth in sys.argv[2].split(",")]
        save_checkpoint(out, shortened(load_checkpoint(run.best_checkpoint), kept))
    except MienError as error:
        sys.exit(f"tools.shorten: {error}")
    print(out)
