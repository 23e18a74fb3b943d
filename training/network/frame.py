"""Input and output layers of every network: pixels in, probabilities out."""

from __future__ import annotations

import keras
from keras import layers

from edge_runtime.errors import UsageError
from training.network.deploy import SCALE, for_deployment, for_speed


def scaled_pixels(height_px: int, width_px: int, channels: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the layers that a network begins with.

    Returns:
        The input ``image``, (N, height_px, width_px, channels) float32 in 0–255, and the pixels scaled to 0–1.

    Raises:
        UsageError: This process has loaded Keras with another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"keras — its backend is {keras.backend.backend()} in this process — expected tensorflow — import training "
            "before keras"
        )
    keras.config.set_image_data_format("channels_last")  # which a file ~/.keras/keras.json may have changed
    image = keras.Input((height_px, width_px, channels), name="image")
    # Scaling alone, no offset: only a factor can be folded exactly into a convolution that pads with zeros.
    return image, layers.Rescaling(1 / 255, name=SCALE)(image)


def finished_network(
    name: str, image: keras.KerasTensor, logits: keras.KerasTensor, *, for_training: bool, borrowed: bool = False
) -> keras.Model:
    """Add the output activation and return the model.

    Args:
        name: Name of the model.
        image: Input layer from ``scaled_pixels``.
        logits: Output of the layer ``logits``, (N, H, W, L) float32; L is 1 for a binary model.
        for_training: Use fused batch normalisation and keep Keras' current dtype policy.
        borrowed: Some layers come from ``keras.applications``, with preprocessing or dropout that is not deployed.
    """
    activation = "sigmoid" if logits.shape[-1] == 1 else "softmax"
    x = layers.Activation(activation, name="probabilities", dtype="float32")(logits)
    model = keras.Model(image, x, name=name)
    if for_training:
        return for_speed(model)
    # All other networks consist of stock layers in float32 already.
    return for_deployment(model) if borrowed or model.dtype_policy.name != "float32" else model
