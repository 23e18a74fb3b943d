"""Losses: sums of cross-entropies and region losses, on logits.

Reading order: ``spec`` (what may be asked for, without TensorFlow), ``weights`` (of the classes), ``pixels`` (what the terms share), ``terms`` (the
formulas), ``make`` (the function that the trainer calls).
"""
