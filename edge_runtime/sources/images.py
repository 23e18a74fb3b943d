"""Image files, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime.errors import InputError
from edge_runtime.image import read_image
from edge_runtime.sources.frame import BaseSource, Frame
from edge_runtime.storage import printable


class ImageSource(BaseSource):
    """Image files in order. One that cannot be read is passed over, remembered, and reported at the end."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        super().__init__(name, "images")
        self._paths = list(paths)
        self.total = len(self._paths)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read.

        Raises:
            InputError: At the end, if there were others: it names them.
        """
        names = _unique_names(self._paths)
        for index, (path, name) in enumerate(zip(self._paths, names, strict=True)):
            if self.stopped.is_set():
                return
            try:
                image = read_image(path)
            except InputError as error:
                self.captured += 1
                self.failed += 1
                self.problems.append(str(error))
                continue
            self.captured += 1
            yield Frame(index=index, name=name, source=printable(path), image_bgr=image, captured_at=time.monotonic())
        if self.problems:
            raise InputError(_all_problems(self.problems, len(self._paths)))


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems, with "_2", "_3" … where two are the same, also in another case: some disks keep only one."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name, count = path.stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{path.stem}_{count}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _all_problems(problems: list[str], total: int) -> str:
    if total == 1:
        return problems[0]
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return f"{len(problems)} of {total} images cannot be used: {'; '.join(problems[:5])}{more}"
