"""Print a dataset report as text, and draw a progress bar while it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge_runtime.progress import OnProgress
from edge_runtime.storage import printable
from training.data.check.files import size
from training.data.check.findings import DatasetReport, share
from training.data.check.kinds import Kind, by_kind, within
from training.data.check.leaks import figures
from training.data.splits import keep_together

EXAMPLES = 3
"""Number of files that are named per kind of problem."""
WIDTH = 100
"""Columns into which examples are packed; none is broken, so that a long path can be copied."""
TABLE_ROWS = 16
"""Number of classes up to which each has a row."""


def render(report: DatasetReport, *, everything: bool = False) -> str:
    """Return a report for the terminal: a summary, the classes by split, and the problems by kind, worst first.

    Args:
        report: Result of a dataset check.
        everything: List every class, and every problem on a line of its own, instead of a few examples per kind.
    """
    kinds = by_kind(report.problems)
    errors = sum(len(kind.problems) for kind in kinds if kind.severity == "error")
    listed = _every_line if everything else _paragraph
    hidden = not everything and any(len(kind.problems) > EXAMPLES for kind in kinds)
    return "\n".join(
        [
            *summary(report),
            *_table(report, everything=everything),
            *(line for kind in kinds for line in listed(kind, report)),
            f"{errors} errors, {len(report.problems) - errors} warnings{' (--all lists every file)' if hidden else ''}",
        ]
    )


def warnings_in_short(report: DatasetReport) -> list[str]:
    """Return one line per kind of warning: the warning, or of several the title, the first file and the remedy."""
    root = report.dataset.root
    return [f"warning: {k.in_short(root)}" for k in by_kind(report.problems) if k.severity == "warning"]


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """Show a progress bar on stderr if it is a terminal; yields ``on_progress`` for ``check_dataset``."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checking", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


def summary(report: DatasetReport) -> list[str]:
    """Return the lines about a dataset as a whole: folder and pairs, images, groups, and what is left out."""
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
    empty = len(report.background_only)
    if empty:
        name = printable(report.info.classes[0].name)
        lines.append(f"masks of '{name}' alone: {empty} of {sum(pair.mask is not None for pair in report.counts)}")
    lines += figures(report.dataset, report.copies).values()
    together = "" if report.dataset.splits.get("val") else _kept_together(report)
    if together:
        lines.append(f"validation: held out of train by seed; {together}")
    if report.ignored_files:
        lines.append(f"ignored: {report.ignored_files} files that are hidden or not images")
    if report.quarantined:
        lines.append(f"left out: {len(report.quarantined)} pairs with errors")
    return lines


def _kept_together(report: DatasetReport) -> str:
    return keep_together(report.dataset.splits.get("train", ()), report.groups, report.copies).in_words()


def _table(report: DatasetReport, *, everything: bool) -> list[str]:
    by_split, pixels = report.split_pixels(), report.pixels
    classes = report.info.classes
    most = sorted(classes, key=lambda c: (-pixels[c.id], c.id))
    shown = classes if everything or len(classes) <= TABLE_ROWS else sorted(most[: TABLE_ROWS - 1], key=lambda c: c.id)
    width = max(12, *(len(printable(c.name)) for c in shown))
    images_with = report.images_with
    lines = [f"{'id':>4}  {'class':<{width}} {'images':>7}" + "".join(f" {split:>8}" for split in by_split)]
    for c in shown:
        shares = "".join(f" {share(counts, c.id):>8.2%}" for counts in by_split.values())
        lines.append(f"{c.id:>4}  {printable(c.name):<{width}} {images_with[c.id]:>7}{shares}")
    rest = most[len(shown) :]
    if rest:
        empty = sum(not pixels[c.id] for c in rest)
        lines.append(
            f"      and {len(rest)} more with fewer pixels, {empty} of them with none (--all lists every class)"
        )
    return lines


def _paragraph(kind: Kind, report: DatasetReport) -> list[str]:
    """Return the lines about a kind: what, how many, the remedy, and below them examples, packed into lines."""
    head = f"{kind.severity} [{kind.code}] "
    if len(kind.problems) == 1:
        return [head + within(report.dataset.root, kind.problems[0].message)]
    lines = [f"{head}{kind.title} — {kind.remedy}"]
    examples = kind.examples(report.dataset.root, EXAMPLES)
    if len(kind.problems) > EXAMPLES:
        examples.append(f"and {len(kind.problems) - EXAMPLES:,} more")
    line = ""
    for text in examples:
        if line and len(line) + len(text) + 2 > WIDTH:
            lines.append(line + ";")
            line = ""
        line = f"{line}; {text}" if line else f"    {text}"
    return [*lines, line]


def _every_line(kind: Kind, _report: DatasetReport) -> list[str]:
    return [f"{kind.severity} [{kind.code}] {problem.message}" for problem in kind.problems]
