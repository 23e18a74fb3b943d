from colors import color_scene, color_truth

from edge_runtime import Segmenter


def test_mask_has_frame_size_and_right_classes(color_package):
    frame = color_scene(96, 128)
    result = Segmenter.load(color_package)(frame)
    assert result.mask.shape == (96, 128)
    assert (result.mask == color_truth(frame)).mean() > 0.95
