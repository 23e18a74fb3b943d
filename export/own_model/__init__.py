"""Keras models that were trained elsewhere: find out on images how one is to be read, and export it as one of ours."""
