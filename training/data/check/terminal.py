"""Print a dataset report as text, and draw a progress bar while it is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from edge_runtime.dataset.pairs import Problem
from edge_runtime.progress import OnProgress
from edge_runtime.storage import printable
from training.data.check.files import size
from training.data.check.findings import DatasetReport, share

SHOWN = 20
"""Maximum number of problems that are printed per kind."""


def render(report: DatasetReport) -> str:
    """Return a report for the terminal: a summary, the classes by split, and the problems by kind, errors first."""
    errors = sum(problem.severity == "error" for problem in report.problems)
    return "\n".join(
        [
            *_summary(report),
            *_table(report),
            *(line for found in _by_kind(report) for line in _listed(found)),
            f"{errors} errors, {len(report.problems) - errors} warnings",
        ]
    )


def warnings_in_short(report: DatasetReport) -> list[str]:
    """Return one line per kind of warning: the first warning and the number of the others."""
    lines = []
    for found in _by_kind(report):
        if found[0].severity == "warning":
            rest = f" (and {len(found) - 1} more: `edge-unet data check` lists all)" if len(found) > 1 else ""
            lines.append(f"warning: {found[0].message}{rest}")
    return lines


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """Show a progress bar on stderr if it is a terminal; yields ``on_progress`` for ``check_dataset``."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checking", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


def _summary(report: DatasetReport) -> list[str]:
    splits = ", ".join(f"{split} {len(pairs)}" for split, pairs in report.dataset.splits.items())
    count = len(report.dataset.pairs())
    lines = [f"{printable(report.dataset.root)}: {count} pairs ({splits}), masks: {report.encoding}"]
    sizes = report.size_range()
    if sizes is not None:
        forms = ", ".join(f"{form} {n}" for form, n in sorted(report.forms.items(), key=lambda item: -item[1]))
        smallest, median, largest = map(size, sizes)
        span = smallest if smallest == largest else f"{smallest} to {largest}, median {median}"
        lines.append(f"images: {forms}; {span}")
    lines += report.dataset.notes
    without = sum(pair.mask is None for pair in report.dataset.pairs())
    if without:
        lines.append(f"without a mask: {without} images count as all background")
    if report.groups is not None:
        lines.append(f"groups: {len(set(report.groups.values()))}")
    if report.ignored_files:
        lines.append(f"ignored: {report.ignored_files} files that are hidden or not images")
    if report.quarantined:
        lines.append(f"left out: {len(report.quarantined)} pairs with errors")
    return lines


def _table(report: DatasetReport) -> list[str]:
    by_split = report.split_pixels()
    width = max(12, *(len(printable(c.name)) for c in report.info.classes))
    images_with = report.images_with
    lines = [f"{'id':>4}  {'class':<{width}} {'images':>7}" + "".join(f" {split:>8}" for split in by_split)]
    for c in report.info.classes:
        shares = "".join(f" {share(counts, c.id):>8.2%}" for counts in by_split.values())
        lines.append(f"{c.id:>4}  {printable(c.name):<{width}} {images_with[c.id]:>7}{shares}")
    return lines


def _by_kind(report: DatasetReport) -> list[list[Problem]]:
    kinds: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in report.problems:
        kinds[problem.severity, problem.code].append(problem)
    return [kinds[kind] for kind in sorted(kinds)]


def _listed(found: list[Problem]) -> list[str]:
    severity, code = found[0].severity, found[0].code
    lines = [f"{severity} [{code}] {problem.message}" for problem in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"{severity} [{code}] … and {len(found) - SHOWN} more: --json lists all")
    return lines
