"""Print the share of each image that each class covers, with the runtime as a library.

python examples/count_pixels.py models/first 'pictures/*.jpg'
"""

from __future__ import annotations

import sys

from edge_runtime import Segmenter

if len(sys.argv) != 3:
    sys.exit(__doc__)
segmenter = Segmenter.load(sys.argv[1])
for result in segmenter.stream(sys.argv[2]):
    shares = result.segmentation.fractions()
    print(result.frame.source, ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
