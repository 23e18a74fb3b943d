"""Read a YAML file with every scalar as the text that was written: ``no``, ``010`` and ``1e3`` stay what they are.

The file is small and plain: tags, anchors, aliases, keys that occur twice and deep nesting are refused, because they
are slips or attacks in a settings file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeAlias

from edge_runtime.storage import printable, read_bytes, translated
from training.errors import DataError

MAX_BYTES = 2**18
"""Largest file that is read, in a few seconds; 10,000 values of ``ids`` fit."""
MAX_DEPTH = 8
Text: TypeAlias = "str | list[Text] | dict[str, Text]"


def scalar(text: str) -> str:
    """Return text as it is written in a list or a mapping on one line: in quotes unless it means itself without."""
    if re.fullmatch(r"\w(?:[\w .+/()-]*[\w.+/()-])?", text):
        return text
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)


def read_yaml(path: Path) -> Text | None:
    """Return the content of a YAML file: text, lists and mappings of text; None if it is empty.

    Raises:
        DataError: The file cannot be read, is too large, or is not plain YAML.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        """Loader of plain YAML; ``BaseLoader`` keeps scalars as text."""

        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _refused("an anchor or alias (& or *): write it out, or put the text into quotes", event)
            if getattr(event, "tag", None):
                raise _refused("a tag (!): put the text into quotes", event)
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise _refused(f"nested more than {MAX_DEPTH} levels deep", event)
            node: yaml.Node | None = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise _refused("a key that is no text", key)
                if key.value in seen:
                    raise _refused(f"the key '{key.value}' a second time: the first would be lost", key)
                seen.add(key.value)
            return super().construct_mapping(node, deep=True)

    def _refused(what: str, where: Any) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=f"found {what}", problem_mark=where.start_mark)

    where = printable(path)
    with translated("read", path, DataError):
        size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{where} — {size} bytes — expected at most {MAX_BYTES} — keep only what is documented in it")
    try:
        value: Text | None = yaml.load(read_bytes(path, DataError), Loader)
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark
        place = f" in line {mark.line + 1}" if mark is not None else ""
        reason = " ".join(f"{cause.context or ''} {cause.problem or ''}".split())
        raise DataError(f"{where} — not valid YAML ({reason}{place}) — correct it") from cause
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise DataError(f"{where} — not valid YAML ({' '.join(str(cause).split())}) — correct it") from cause
    return value
