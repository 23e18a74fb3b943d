"""Say when a class comes into view and when it leaves: the runtime inside an application.

python examples/watch_camera.py models/first 0 person

The source is what `edge-unet run --source` takes. A camera that is lost is waited for, as a service would.
"""

from __future__ import annotations

import math
import sys

from edge_runtime import Patience, Segmenter, SourceOptions, open_source, stream

SHARE_OF_FRAME = 0.02

if len(sys.argv) != 4:
    sys.exit(__doc__)
_, package, address, name = sys.argv
segmenter = Segmenter.load(package)
present = False
patience = Patience(give_up_s=math.inf, retry_at_start=True)
with open_source(address, SourceOptions(patience=patience)) as source:
    for result in stream(segmenter, source):
        now_present = result.segmentation.fractions()[name] > SHARE_OF_FRAME
        if now_present != present:
            present = now_present
            print(f"frame {result.frame.index}, {result.age_ms:.0f} ms old: {name} {'came' if present else 'left'}")
