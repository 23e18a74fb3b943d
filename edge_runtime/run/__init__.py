"""Run a segmentation from a source to its outputs, attended or as a service.

from edge_runtime.run import RunConfig, execute

summary = execute(RunConfig(package=Path("models/person"), source="talk.mp4", json="masks.jsonl"))
"""

from __future__ import annotations

from edge_runtime.run.config import RunConfig
from edge_runtime.run.execution import execute
from edge_runtime.run.observer import Observer

__all__ = ["Observer", "RunConfig", "execute"]
