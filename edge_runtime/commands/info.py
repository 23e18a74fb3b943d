"""``edge-unet info``: verify and describe a model package, without onnxruntime or OpenCV."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from edge_runtime.commands.arguments import add_package

if TYPE_CHECKING:
    from edge_runtime.model.package import Manifest

_DESCRIPTION = """\
Verify the checksums of a model package and show its input, classes, variants, parity with Keras, metrics and
provenance. The model is not loaded.
"""
_EPILOG = """\
example:
  edge-unet info models/first --json
"""
_REPORTS = ("parity", "metrics", "quantization", "provenance")
"""Keys of a manifest whose values may gain further keys."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "info",
        help="verify a model package and show what it contains",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_package(parser, "model package")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Verify the package and print its facts."""
    from edge_runtime.model.package import Package

    facts = package_facts(Package.open(args.package).manifest)
    sys.stdout.write((json.dumps(facts, allow_nan=False) if args.json else _table(facts)) + "\n")
    return 0


def package_facts(manifest: Manifest) -> dict[str, Any]:
    """Return the facts of a manifest as the JSON object of ``info --json``."""
    contract, value = manifest.contract, manifest.to_dict()
    return {
        "name": contract.name,
        "input": {"height": contract.height_px, "width": contract.width_px, "channels": contract.channels},
        "binary": contract.binary,
        "classes": value["contract"]["classes"],
        "ignore_id": contract.ignore_id,
        **{key: value[key] for key in ("variants", "parameters", "gflops", *_REPORTS)},
        "golden": len(manifest.golden),
    }


def _table(facts: dict[str, Any]) -> str:
    """Return the facts as text."""
    from edge_runtime.storage import printable

    size, kind = facts["input"], "binary (sigmoid)" if facts["binary"] else "softmax"
    rows = [
        f"name        {printable(facts['name'])}",
        f"input       {size['height']}x{size['width']}x{size['channels']} (height, width, channels), uint8",
        f"head        {kind}, {len(facts['classes'])} classes"
        + ("" if facts["ignore_id"] is None else f", ignore id {facts['ignore_id']}"),
        f"size        {facts['parameters']:,} parameters, {facts['gflops']:.3g} GFLOP per frame",
        f"golden      {facts['golden']} frames",
        "",
        "classes",
    ]
    rows += [
        f"  {c['id']:>3}  {printable(c['name']):<20}  #{c['color'][0]:02x}{c['color'][1]:02x}{c['color'][2]:02x}"
        for c in facts["classes"]
    ]
    rows += ["", "variants"]
    rows += [
        f"  {printable(name):<8}  {printable(v['file'])}  {v['bytes'] / 1e6:.2f} MB  sha256 {printable(v['sha256'][:16])}…"
        for name, v in facts["variants"].items()
    ]
    for title in _REPORTS:
        if facts[title]:
            rows += ["", title, *_nested(facts[title])]
    return "\n".join(rows)


def _nested(values: dict[str, Any], depth: int = 1) -> list[str]:
    """Return a JSON object with any keys as indented lines; each object in a list gets one line."""
    from edge_runtime.storage import printable

    lines = []
    for key, value in values.items():
        label = f"{'  ' * depth}{printable(key)}"
        if isinstance(value, dict):
            lines += [label, *_nested(value, depth + 1)]
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            rows = (", ".join(f"{printable(k)} {_plain(v)}" for k, v in item.items()) for item in value)
            lines += [label, *(f"{'  ' * depth}  {row}" for row in rows)]
        else:
            lines.append(f"{label}: {_plain(value)}")
    return lines


def _plain(value: object) -> str:
    from edge_runtime.storage import printable

    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
