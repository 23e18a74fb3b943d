"""Run the command ``edge-unet`` as ``python -m edge_runtime``."""

from __future__ import annotations

try:
    from edge_runtime.cli import run_and_exit
except KeyboardInterrupt:  # while modules load, where nobody else tells it from a fault
    raise SystemExit(130) from None

if __name__ == "__main__":
    run_and_exit()
