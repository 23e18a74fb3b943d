"""Model packages that come with the runtime; `docs/models/person.md` in the repository describes them."""

from pathlib import Path

PERSON = Path(__file__).parent / "person"
"""Segments people before a camera."""
PERSON_SMALL = Path(__file__).parent / "person-small"
"""The same in less time, with coarser outlines."""
SHIPPED = {path.name: path for path in (PERSON, PERSON_SMALL)}
"""Folders of the packages by the name that the commands take for them."""
