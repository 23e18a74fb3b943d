"""Run the command ``edge-unet`` as ``python -m edge_runtime``."""

from __future__ import annotations

from edge_runtime.cli import run_and_exit

if __name__ == "__main__":
    run_and_exit()
