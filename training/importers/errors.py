"""Exceptions of an import, as a branch of training's tree; the number is the exit code.

InputError                          3
└── DataError                       3   a folder that cannot be imported
    └── ImportProblemsError         3   the same, with a list of every problem
UsageError                          2   the folder to write is not empty
"""

from __future__ import annotations

from collections.abc import Sequence

from training.errors import DataError


class ImportProblemsError(DataError):
    """A dataset cannot be imported as it is; nothing was written.

    Attributes:
        problems: All problems, one line each. The message is the first problem and the number of the others.

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
