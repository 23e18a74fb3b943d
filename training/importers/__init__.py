"""Convert datasets of other formats to the folder layout that training reads.

``formats`` lists the formats, one module per format reads a folder into a ``Plan``, and ``writing`` writes a dataset
from it. Reading order: formats, errors, shapes, painting, plan, documents, files, mask_files, brush, glance, one module
per format, detection, choice, writing.
Images are copied byte for byte; nothing is downloaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from edge_runtime.progress import OnProgress, silent
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers.errors import ImportProblemsError
from training.importers.formats import AUTO, IMPORTERS, ImportFormat

if TYPE_CHECKING:
    from training.importers.plan import ImportSummary, Plan

__all__ = ["AUTO", "IMPORTERS", "ImportFormat", "ImportProblemsError", "import_dataset"]


def import_dataset(
    kind: str,
    src: Path,
    dst: Path,
    *,
    classes: Sequence[str] | None = None,
    merge: Mapping[str, Sequence[str]] | None = None,
    skip_bad: bool = False,
    attribute: str | None = None,
    on_progress: OnProgress = silent,
) -> ImportSummary:
    """Convert a dataset of another format to a dataset folder.

    ``dst`` receives ``[train|val|test/]images`` and ``masks`` (index PNGs), ``dataset.yaml`` and, if the format names
    videos or places, ``groups.csv``. It is written completely or not at all.

    Args:
        kind: Name of the format, a key of ``IMPORTERS``; "auto" detects it by the content of ``src``.
        src: Folder to read; see ``IMPORTERS[kind].layout``. Nothing outside it is read.
        dst: Folder to write, new or empty.
        classes: Names of the source's classes to keep, in this order; objects of the others become background. None
            keeps all classes; of annotations with shapes, all that occur.
        merge: Names of classes to join, by the name of the class that they become, which may be new.
        skip_bad: Leave out faulty shapes and files, which are named in the summary.
        attribute: Name of the attribute of VIA's regions whose values are the classes; None takes the only one, or one
            that is named class, label, category, name or type.
        on_progress: Called with "importing" and the number of images done and in all.

    Returns:
        A summary of the images that were written and left out.

    Raises:
        UsageError: The format or a class is unknown, ``dst`` is not empty, or an attribute is named for a format without.
        DataError: ``src`` is not of this format, or "auto" finds none or several; an ``ImportProblemsError`` lists every problem.
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
    if kind not in (*IMPORTERS, "auto"):
        raise UsageError(f"format '{kind}' — unknown — expected {', '.join(IMPORTERS)} or auto")
    if not src.is_dir():
        found = "is a file: unpack it first" if src.exists() else "no such folder"
        what = "dataset" if kind == "auto" else f"{kind} dataset"
        raise DataError(f"{printable(src)} — {found} — expected the folder of a {what}")
    from training.importers.choice import choose
    from training.importers.detection import detect, import_hint
    from training.importers.files import datasets_inside
    from training.importers.plan import Tally
    from training.importers.writing import require_free, write_plan

    require_free(dst)
    evidence = None
    if kind == "auto":
        kind, evidence = detect(src, dst)
    if attribute is not None and kind != "via":
        raise UsageError(f"attribute '{printable(attribute)}' — of a {kind} dataset — expected it for via only")
    module = importlib.import_module(f"training.importers.{IMPORTERS[kind].module}")
    try:
        plan: Plan = module.plan(src) if attribute is None else module.plan(src, attribute)
    except ImportProblemsError:
        raise
    except DataError as error:
        if hint := import_hint(src, dst, instead_of=kind):
            raise DataError(f"{error} — {hint}") from error
        raise
    notes = Tally()
    for folder in datasets_inside(src):
        notes.add("dataset folders inside: not read", folder.relative_to(src).as_posix())
    plan = replace(plan, notes=(*plan.notes, *notes.lines()))
    summary = write_plan(choose(plan, src, classes, merge), src, dst, on_progress, skip_bad=skip_bad)
    return replace(summary, kind=kind, evidence=evidence)
