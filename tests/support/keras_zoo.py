"""Keras models for segmentation in the ways in which people write them, none with a preset of ours; weights are random."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers, ops

Build = Callable[[], keras.Model]
ZOO: dict[str, Build] = {}


def zoo(build: Build) -> Build:
    """Register a model under its function's name."""
    ZOO[build.__name__] = build
    return build


def write_zoo(folder: Path) -> None:
    """Save every model with the same random weights each time."""
    for name, build in ZOO.items():
        keras.utils.set_random_seed(0)
        build().save(folder / f"{name}.keras")


def twice(x, width, **more):
    """Two 3×3 convolutions with ReLU."""
    for _ in range(2):
        x = layers.Conv2D(
            width, 3, activation="relu", **({"padding": "same", "kernel_initializer": "he_normal"} | more)
        )(x)
    return x


def ladder(
    x,
    widths,
    block,
    up,
    join=lambda skip, x: layers.concatenate([skip, x]),
    down=lambda x, width: layers.MaxPooling2D()(x),
):
    """Go down and up again, with a skip connection per level."""
    skips = []
    for width in widths[:-1]:
        x = block(x, width)
        skips.append(x)
        x = down(x, width)
    x = block(x, widths[-1])
    for width, skip in zip(reversed(widths[:-1]), reversed(skips), strict=True):
        x = block(join(skip, up(x, width)), width)
    return x


def transposed(x, width, size=2):
    return layers.Conv2DTranspose(width, size, strides=2, padding="same")(x)


def doubled(x, width):
    return layers.Conv2D(width, 2, activation="relu", padding="same")(layers.UpSampling2D(2)(x))


def normalised(x, width):
    for _ in range(2):
        x = layers.Conv2D(width, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    return x


@zoo
def transposed_binary():
    image = layers.Input((128, 128, 3))
    x = ladder(image, (8, 16, 32), twice, transposed)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def upsampled_grey():
    image = layers.Input((256, 256, 1))
    x = ladder(image, (8, 16, 32), twice, doubled)
    x = layers.Conv2D(2, 3, activation="relu", padding="same")(x)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def dropout_and_rescaling():
    image = keras.Input((128, 128, 3))

    def block(x, width):
        x = layers.Conv2D(width, 3, activation="elu", kernel_initializer="he_normal", padding="same")(x)
        x = layers.Dropout(0.1)(x)
        return layers.Conv2D(width, 3, activation="elu", kernel_initializer="he_normal", padding="same")(x)

    x = ladder(layers.Rescaling(1 / 255)(image), (8, 16, 32, 48), block, transposed)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x), name="U-Net")


@zoo
def valid_with_crops():
    """The original's geometry: 572 in, 388 out."""
    image = layers.Input((572, 572, 1))

    def join(skip, x):
        rows, columns = ((a - b) // 2 for a, b in zip(skip.shape[1:3], x.shape[1:3], strict=True))
        return layers.concatenate([layers.Cropping2D((rows, columns))(skip), x])

    def block(x, width):
        return twice(x, width, padding="valid")

    x = ladder(image, (4, 8, 12, 16, 24), block, lambda x, w: layers.Conv2DTranspose(w, 2, strides=2)(x), join)
    return keras.Model(image, layers.Conv2D(2, 1, activation="softmax")(x))


@zoo
def softmax_of_three():
    image = layers.Input((96, 128, 3))
    x = ladder(image, (8, 16, 24), normalised, transposed)
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax", dtype="float32")(x))


@zoo
def logits_of_three():
    image = layers.Input((128, 128, 3))
    x = ladder(image, (8, 16, 24), normalised, lambda x, w: transposed(x, w, 3))
    return keras.Model(image, layers.Conv2D(3, 3, padding="same")(x))


@zoo
def softmax_as_a_layer():
    image = layers.Input((64, 64, 3))
    x = ladder(image, (8, 16), normalised, doubled)
    return keras.Model(image, layers.Softmax()(layers.Conv2D(3, 1)(x)))


@zoo
def attention_gates():
    image = layers.Input((128, 128, 3))

    def join(skip, x):
        width = skip.shape[-1]
        theta = layers.Conv2D(width // 2, 1)(skip)
        phi = layers.Conv2D(width // 2, 1)(x)
        gate = layers.Conv2D(1, 1, activation="sigmoid")(layers.Activation("relu")(layers.add([theta, phi])))
        return layers.Concatenate()([layers.Multiply()([skip, gate]), x])

    x = ladder(image, (8, 16, 32), normalised, transposed, join)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def gates_from_below():
    """Attention gates as in Oktay et al., with a strided skip, upsampled and repeated."""
    image = layers.Input((64, 64, 3))

    def gated(skip, below, width):
        theta = layers.Conv2D(width, 2, strides=2, padding="same")(skip)
        phi = layers.Conv2D(width, 1, padding="same")(below)
        sigmoid = layers.Activation("sigmoid")(
            layers.Conv2D(1, 1)(layers.Activation("relu")(layers.Add()([theta, phi])))
        )
        return layers.Multiply()([layers.UpSampling2D(2)(sigmoid), skip])

    one = twice(image, 8)
    two = twice(layers.MaxPooling2D()(one), 16)
    three = twice(layers.MaxPooling2D()(two), 24)
    x = twice(layers.concatenate([transposed(three, 16), gated(two, three, 16)]), 16)
    x = twice(layers.concatenate([transposed(x, 8), gated(one, x, 8)]), 8)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def residual():
    image = layers.Input((128, 128, 3))

    def block(x, width):
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        y = layers.LeakyReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(y))
        return layers.LeakyReLU()(layers.Add()([y, layers.Conv2D(width, 1)(x)]))

    def down(x, width):
        return layers.Conv2D(width, 3, strides=2, padding="same")(x)

    x = ladder(image, (8, 16, 32), block, transposed, down=down)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def recurrent_residual():
    """R2U-Net: the same convolution several times."""
    image = layers.Input((64, 64, 3))

    def block(x, width):
        x = layers.Conv2D(width, 1)(x)
        y = x
        for _ in range(2):
            shared = layers.Conv2D(width, 3, padding="same", activation="relu")
            z = shared(y)
            for _ in range(2):
                z = shared(layers.add([y, z]))
            y = z
        return layers.add([x, y])

    x = ladder(image, (8, 16, 24), block, doubled)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def nested_skips():
    """UNet++ with one output."""
    image = layers.Input((64, 64, 3))
    widths = (8, 12, 16)
    nodes = {}
    for level, width in enumerate(widths):
        nodes[level, 0] = twice(image if level == 0 else layers.MaxPooling2D()(nodes[level - 1, 0]), width)
        for step in range(1, level + 1):
            row = level - step
            known = [nodes[row, k] for k in range(step)]
            nodes[row, step] = twice(
                layers.concatenate([*known, transposed(nodes[row + 1, step - 1], widths[row])]), widths[row]
            )
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(nodes[0, 2]), name="UNet++")


@zoo
def mobilenet_nested():
    """An encoder of keras.applications as one layer, and a decoder of Sequential blocks."""
    base = keras.applications.MobileNetV2(input_shape=(128, 128, 3), include_top=False, weights=None, alpha=0.35)
    names = (
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "block_16_project",
    )
    encoder = keras.Model(base.input, [base.get_layer(name).output for name in names])
    image = keras.Input((128, 128, 3))
    *skips, x = encoder(image)
    for width, skip in zip((48, 32, 24, 16), reversed(skips), strict=True):
        up = keras.Sequential(
            [
                layers.Conv2DTranspose(width, 3, strides=2, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
            ]
        )
        x = layers.Concatenate()([up(x), skip])
    return keras.Model(image, layers.Conv2DTranspose(3, 3, strides=2, padding="same")(x))


@zoo
def mobilenet_preprocessed():
    """An encoder of keras.applications opened, behind its own scaling as arithmetic on tensors."""
    image = keras.Input((96, 96, 3))
    x = keras.applications.mobilenet_v2.preprocess_input(image)
    base = keras.applications.MobileNetV2(input_tensor=x, include_top=False, weights=None, alpha=0.35)
    x = base.get_layer("block_13_expand_relu").output
    skip = base.get_layer("block_3_expand_relu").output
    x = layers.UpSampling2D(4, interpolation="bilinear")(layers.Conv2D(32, 1, activation="relu")(x))
    x = layers.Concatenate()([x, layers.Conv2D(16, 1)(skip)])
    x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model(image, layers.UpSampling2D(4, interpolation="bilinear")(x))


@zoo
def mobilenetv3_gates():
    base = keras.applications.MobileNetV3Small(
        input_shape=(96, 96, 3), include_top=False, weights=None, minimalistic=False
    )
    image = keras.Input((96, 96, 3))
    x = keras.Model(base.input, base.layers[-1].output)(image)
    x = layers.Conv2D(3, 1)(x)
    return keras.Model(image, layers.Activation("softmax")(layers.Resizing(96, 96)(x)))


@zoo
def any_size():
    image = keras.Input((None, None, 3))
    x = ladder(image, (8, 16, 24), normalised, doubled)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def group_normalised():
    image = keras.Input((64, 64, 3))

    def block(x, width):
        x = layers.Conv2D(width, 3, padding="same")(x)
        return layers.Activation("swish")(layers.GroupNormalization(groups=4)(x))

    x = ladder(image, (8, 16, 24), block, transposed)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def layer_normalised():
    image = keras.Input((64, 64, 3))

    def block(x, width):
        x = layers.DepthwiseConv2D(5, padding="same")(layers.Conv2D(width, 1)(x))
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(2 * width, activation="gelu")(y)
        return layers.add([x, layers.Dense(width)(y)])

    x = ladder(image, (8, 16, 24), block, doubled)
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax")(x))


@zoo
def mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        image = keras.Input((64, 64, 3))
        x = ladder(layers.Rescaling(1 / 127.5, offset=-1)(image), (8, 16, 24), normalised, transposed)
        return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", dtype="float32")(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")


@zoo
def squeeze_and_excitation():
    image = keras.Input((64, 64, 3))

    def block(x, width):
        x = normalised(x, width)
        weights = layers.GlobalAveragePooling2D()(x)
        weights = layers.Dense(width // 4, activation="relu")(weights)
        weights = layers.Reshape((1, 1, width))(layers.Dense(width, activation="sigmoid")(weights))
        return layers.multiply([x, weights])

    x = ladder(image, (8, 16, 24), block, transposed)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def separable_and_dilated():
    image = keras.Input((64, 64, 3))

    def block(x, width):
        x = layers.SeparableConv2D(width, 3, padding="same", activation="relu")(x)
        return layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(width, 3, padding="same", dilation_rate=2)(x))

    x = ladder(image, (8, 16, 24), block, doubled)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def grouped():
    image = keras.Input((64, 64, 3))

    def block(x, width):
        x = layers.Conv2D(width, 1, activation="relu")(x)
        return layers.Conv2D(width, 3, padding="same", groups=4, activation="relu")(x)

    x = ladder(image, (8, 16, 24), block, transposed)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def grouped_and_normalised():
    """Blocks as ResNeXt's: grouped convolutions without an activation of their own, of few and of many channels."""
    image = keras.Input((64, 64, 3))

    def block(x, width):
        x = layers.Conv2D(width, 1, activation="relu")(x)
        x = layers.Conv2D(width, 3, padding="same", groups=4, use_bias=False)(x)
        return layers.LeakyReLU()(layers.BatchNormalization()(x))

    x = ladder(image, (16, 48, 96), block, doubled)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def pyramid_of_pools():
    """PSPNet's head: pools of several sizes, resized and joined."""
    image = keras.Input((96, 96, 3))
    x = normalised(image, 8)
    x = layers.MaxPooling2D(4)(normalised(x, 16))
    branches = [x]
    for size in (2, 4, 8):
        pooled = layers.Conv2D(4, 1, activation="relu")(layers.AveragePooling2D(size)(x))
        branches.append(layers.Resizing(24, 24, interpolation="bilinear")(pooled))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.concatenate(branches))
    x = layers.Conv2D(3, 1, activation="softmax")(x)
    return keras.Model(image, layers.UpSampling2D(4)(x))


@zoo
def rows_of_pixels():
    """The old habit of SegNet scripts: one row of all pixels, and a softmax over it."""
    image = keras.Input((64, 96, 3))
    x = ladder(image, (8, 16), normalised, doubled)
    x = layers.Reshape((64 * 96, 3))(layers.Conv2D(3, 1)(x))
    return keras.Model(image, layers.Activation("softmax")(x))


@zoo
def half_size():
    image = keras.Input((128, 128, 3))
    x = normalised(layers.Conv2D(8, 3, strides=2, padding="same")(image), 8)
    x = ladder(x, (8, 16), normalised, transposed)
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax")(x))


@zoo
def bilinear_after_softmax():
    image = keras.Input((64, 64, 3))
    x = layers.MaxPooling2D()(normalised(image, 8))
    x = layers.Conv2D(3, 1, activation="softmax")(normalised(x, 16))
    return keras.Model(image, layers.UpSampling2D(2, interpolation="bilinear")(x))


@zoo
def sequential():
    return keras.Sequential(
        [
            keras.Input((64, 64, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.UpSampling2D(),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Conv2D(1, 1, activation="sigmoid"),
        ]
    )


@zoo
def operations_on_tensors():
    image = keras.Input((64, 64, 3))
    x = image / 255.0
    a = layers.Conv2D(8, 3, padding="same")(x)
    b = ops.relu(a) + 0.1 * ops.tanh(a)
    c = ops.concatenate([b, ops.mean(b, axis=-1, keepdims=True), ops.max(b, axis=-1, keepdims=True)], axis=-1)
    return keras.Model(image, ops.sigmoid(layers.Conv2D(1, 1)(c)))


@zoo
def normalised_and_augmented():
    image = keras.Input((64, 64, 3))
    x = layers.RandomFlip("horizontal")(image)
    x = layers.Normalization(mean=[120.0, 115.0, 100.0], variance=[3600.0, 3500.0, 3700.0])(x)
    x = layers.GaussianNoise(0.1)(x)
    x = ladder(x, (8, 16), normalised, transposed)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


@zoo
def summed_sides():
    """Deep supervision that is averaged to one output."""
    image = keras.Input((64, 64, 3))
    one = normalised(image, 8)
    two = normalised(layers.MaxPooling2D()(one), 16)
    sides = [
        layers.Conv2D(1, 1, activation="sigmoid")(one),
        layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(1, 1, activation="sigmoid")(two)),
    ]
    return keras.Model(image, layers.Average()(sides))


if __name__ == "__main__":
    write_zoo(Path(sys.argv[1]))
