"""Train on a folder of images and masks and finish the run folder.

Reading order: ``train`` (check the data, choose the sizes), ``fit`` (set up the run and train), ``finish`` (measure the
best model and write the report).
"""
