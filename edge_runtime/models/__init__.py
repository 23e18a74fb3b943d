"""Model packages that come with the runtime; `docs/models/person.md` in the repository describes them."""

import os
from pathlib import Path

PERSON = Path(__file__).parent / "person"
"""Segments people before a camera."""
PERSON_SMALL = Path(__file__).parent / "person-small"
"""The same in less time, with coarser outlines."""
SHIPPED = {path.name: path for path in (PERSON, PERSON_SMALL)}
"""Folders of the packages by name."""


def located(path: str | Path) -> Path:
    """Return the path of a model: that of one of ours if it is named and nothing else there has the name."""
    ours = SHIPPED.get(str(path))
    return Path(path) if ours is None or os.path.lexists(path) else ours
