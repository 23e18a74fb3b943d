"""Networks: a frozen shape that needs no Keras, and the layers that are built from it.

Reading order: ``shape`` (the protocol of a shape), one file per architecture, and the parts that networks are built
from: ``blocks``, ``encoders`` (backbones of ``keras.applications``), ``deploy`` (conversion of the trained network to
the saved one), ``frame`` (input and output layers). ``training.presets.PRESETS`` names the shapes that ship.
"""
