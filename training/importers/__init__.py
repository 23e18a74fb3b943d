"""Datasets as people download them, to the folder layout that training reads.

``formats`` says what there is, one module a format finds what is in a folder (a ``Plan``), ``writing`` makes a dataset
of it. Modules from the bottom up: formats, errors, plan, documents, files, shapes, mask_files, the formats,
writing, cli. Images are copied byte for byte; nothing is downloaded.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from edge_runtime.progress import OnProgress, silent
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers.errors import ImportProblemsError
from training.importers.formats import IMPORTERS, ImportFormat

if TYPE_CHECKING:
    from training.importers.plan import ImportSummary, Plan

__all__ = ["IMPORTERS", "ImportFormat", "ImportProblemsError", "import_dataset"]


def import_dataset(kind: str, src: Path, dst: Path, *, on_progress: OnProgress = silent) -> ImportSummary:
    """Make a dataset folder of one in another format.

    ``dst`` gets ``[train|val|test/]images`` and ``masks`` (index PNGs), ``dataset.yaml`` and, where the format knows
    videos or places, ``groups.csv``. It appears when everything is written, or not at all.

    Args:
        kind: A key of ``IMPORTERS``.
        src: The folder to read; see ``IMPORTERS[kind].layout``. Nothing outside it is read.
        dst: The folder to write, which must not exist or be empty.
        on_progress: Called with "importing" and the number of images done and of all.

    Returns:
        What was written, and what was left out.

    Raises:
        UsageError: No such format, or ``dst`` is not empty.
        DataError: ``src`` is not of this format; as ``ImportProblemsError`` it lists everything that is wrong.
        StorageError: ``dst`` cannot be written.

    Example:
        >>> import json, shutil
        >>> from training import import_dataset
        >>> image = sorted(data.rglob("images/*"))[0]
        >>> (tmp_path / "labelme").mkdir()
        >>> _ = shutil.copy(image, tmp_path / "labelme" / image.name)
        >>> pole = {"label": "pole", "shape_type": "rectangle", "points": [[2, 2], [9, 9]]}
        >>> text = json.dumps({"imagePath": image.name, "shapes": [pole]})
        >>> _ = (tmp_path / "labelme" / f"{image.stem}.json").write_text(text)
        >>> summary = import_dataset("labelme", tmp_path / "labelme", tmp_path / "imported")
        >>> [c.name for c in summary.classes], summary.images
        (['background', 'pole'], {'all': 1})
    """
    if kind not in IMPORTERS:
        raise UsageError(f"format '{kind}' — unknown — expected {', '.join(IMPORTERS)}")
    if not src.is_dir():
        found = "is a file: unpack it first" if src.exists() else "no such folder"
        raise DataError(f"{printable(src)} — {found} — expected the folder of a {kind} dataset")
    from training.importers.writing import require_free, write_plan

    require_free(dst)
    module = importlib.import_module(f"training.importers.{IMPORTERS[kind].module}")
    plan: Plan = module.plan(src)
    return write_plan(plan, src, dst, on_progress)
