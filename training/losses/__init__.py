"""Losses: sums of cross-entropies and region losses on logits.

Reading order: ``spec`` (parsing a loss's text, without TensorFlow), ``weights`` (class weights), ``pixels`` (the
softmax that all terms share), ``terms`` (the formulas), ``make`` (the function that the trainer calls).
"""
