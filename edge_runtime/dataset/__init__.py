"""Images with masks: finding the files, reading masks as class ids, and measuring a segmentation."""
