"""Find images and masks, read masks as class ids, and compute the metrics of a segmentation."""
