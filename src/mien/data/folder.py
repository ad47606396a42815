"""Other data sets: pictures of any size in class folders, ``PATH/<class>/*`` or ``PATH/<split>/<class>/*``.

Split folders, in any case and spelling: ``train`` or ``training``; ``val``, ``valid``, ``validation`` or
``PublicTest``, which take the place of Public; ``PrivateTest``; and ``test``, which is Private beside a validation
folder and a test without halves alone. Without split folders the name of the given folder tells the split
(``.../train``), and otherwise every picture is a test: the data set measures, and is not trained on by accident.
So ``published_test`` can be asked of each data set that has a picture outside ``train``.

Class folders bear the names of the seven emotions or their aliases in use, in any case; a label map names the others,
such as the numbers of RAF-DB. A zip of such folders is read as it is.
"""

from pathlib import Path

from mien.data._names import class_names, usages_of_splits
from mien.data._pictures import read_pictures
from mien.data._tree import open_tree
from mien.data.samples import FaceSamples


def read_folder(
    path: Path, *, skip_bad: bool = False, skip_unmapped: bool = False, label_map: Path | None = None
) -> FaceSamples:
    """The pictures of class folders, each cropped to a grey square of 48 x 48; rows count the sorted paths.

    Args:
        path: folder, or zip of a folder.
        skip_bad: leave out pictures that cannot be read; the rows of the others stay what they were.
        skip_unmapped: leave out class folders that are no emotion (contempt), told in ``skipped``.
        label_map: TOML file of lines ``"1" = "surprise"``: name of a class folder -> emotion.

    Raises:
        MissingPathError: there is no such path.
        DataError: no class folders, classes that are no emotion, a bad picture, a bad label map.
    """
    labels = class_names(label_map)
    with open_tree(path) as tree:
        raw = read_pictures(tree, labels, skip_bad=skip_bad, skip_unmapped=skip_unmapped, exact=False)
    return FaceSamples(
        images=raw.images,
        labels=raw.labels,
        rows=raw.positions,
        usages=usages_of_splits(raw.splits),
        name=f"folder:{path.resolve().name}",
        row_source=raw.row_source,
        skipped=raw.skipped,
    )
