"""Keras models: read one from a file that may hold code, and rebuild it in the form that ``export.convert`` takes.

Reading order: ``configuration`` (what a model may be made of), ``archive`` (files), ``convertible`` (layers in place of
those that do not convert), ``flat`` (one level of layers, in float32), ``pixels`` (what the model expects of pixels),
``answer`` (its logits), ``standard`` (all of these).
"""
