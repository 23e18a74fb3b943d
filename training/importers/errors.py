"""What can go wrong in an import, under training's tree (the number is the exit code).

InputError                          3
└── DataError                       3   a folder that cannot be imported
    └── ImportProblemsError         3   the same, with everything that is wrong in it
UsageError                          2   the folder to write is there already
"""

from __future__ import annotations

from collections.abc import Sequence

from training.errors import DataError


class ImportProblemsError(DataError):
    """A dataset cannot be imported as it is; nothing was written.

    Attributes:
        problems: All of them, one line each. The message is the first and the number of the others.

    Example:
        >>> from training import ImportProblemsError
        >>> error = ImportProblemsError(["a.png — damaged", "b.png — damaged"])
        >>> print(error)
        a.png — damaged (and 1 more problems)
        >>> len(error.problems)
        2
    """

    def __init__(self, problems: Sequence[str]) -> None:
        rest = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{rest}")
        self.problems = tuple(problems)
