"""Model packages that come with the runtime."""

from pathlib import Path

PERSON = Path(__file__).parent / "person"
"""Segments people before a camera; `docs/models/person.md` in the repository describes it."""
