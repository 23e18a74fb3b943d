"""Train the U-Net of the well-known Keras notebooks: widths 16–256, ELU, dropout, Adam, (binary) cross-entropy + Dice.

They have no batch normalisation. With the momentum that Keras gives it, validation would be at random for the first
hundreds of steps, which are many of the few minutes that there are.
"""

from __future__ import annotations

import time

import given
import keras
import numpy as np
from keras import layers, ops

BATCH, LEARNING_RATE = 8, 1e-3
WIDTHS, DROPOUT = (16, 32, 64, 128, 256), (0.1, 0.1, 0.2, 0.2, 0.3)


def main() -> None:
    args = given.arguments(__doc__).parse_args()
    start = time.monotonic()
    keras.utils.set_random_seed(args.seed)
    size = given.common_size(args.data)
    classes = len(given.read_config(args.data)[0])
    train, val = (
        Batches(*given.read_split(args.data, split, size), shuffled=split == "train") for split in ("train", "val")
    )
    model = unet(size, 1 if classes == 2 else classes)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), cross_entropy_and_dice)
    best = args.out / "best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(best, "val_loss", save_best_only=True, save_weights_only=True)
    limit = StopAt(start + 60 * args.minutes)
    history = model.fit(train, validation_data=val, epochs=10**6, callbacks=[checkpoint, limit], verbose=2)
    train_s = time.monotonic() - start
    model.load_weights(best)
    signature = [keras.InputSpec(shape=(1, *size, 3), dtype="float32", name="image")]
    model.export(args.out / "model.onnx", format="onnx", input_signature=signature, verbose=False)
    given.write_card(
        args.out,
        model="model.onnx",
        output=None,
        size=size,
        color="rgb",
        layout="nhwc",
        divisor=255,
        fit="stretch",
        parameters=model.count_params(),
        epochs=len(history.epoch),
        train_s=train_s,
    )


def unet(size: tuple[int, int], outputs: int) -> keras.Model:
    """Return the network; it ends in logits."""
    image = x = keras.Input((*size, 3))
    skips = []
    for width, dropout in zip(WIDTHS[:-1], DROPOUT, strict=False):
        skips.append(x := two_convolutions(x, width, dropout))
        x = layers.MaxPooling2D()(x)
    x = two_convolutions(x, WIDTHS[-1], DROPOUT[-1])
    for width, dropout, skip in zip(WIDTHS[-2::-1], DROPOUT[-2::-1], skips[::-1], strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same")(x)
        x = two_convolutions(layers.Concatenate()([x, skip]), width, dropout)
    return keras.Model(image, layers.Conv2D(outputs, 1)(x))


def two_convolutions(x: keras.KerasTensor, width: int, dropout: float) -> keras.KerasTensor:
    x = layers.Conv2D(width, 3, padding="same", activation="elu", kernel_initializer="he_normal")(x)
    x = layers.Dropout(dropout)(x)
    return layers.Conv2D(width, 3, padding="same", activation="elu", kernel_initializer="he_normal")(x)


def cross_entropy_and_dice(ids: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Return cross-entropy + Dice over the pixels that count; binary with one logit, else per class.

    Args:
        ids: (N, H, W, 1) class ids or ``IGNORE``.
        logits: (N, H, W, 1) or (N, H, W, classes).
    """
    ids = ops.cast(ids, "int32")
    counted = ops.cast(ids != given.IGNORE, "float32")
    if logits.shape[-1] == 1:
        truth = ops.cast(ids == 1, "float32")
        pixels = ops.binary_crossentropy(truth, logits, from_logits=True)
        found = ops.sigmoid(logits)
    else:
        truth = ops.one_hot(ids[..., 0], logits.shape[-1])
        pixels = ops.categorical_crossentropy(truth, logits, from_logits=True)[..., None]
        found = ops.softmax(logits)
    both, either = (ops.sum(counted * part, (0, 1, 2)) for part in (truth * found, truth + found))
    dice = ops.mean((2 * both + 1) / (either + 1))
    return ops.sum(counted * pixels) / ops.maximum(ops.sum(counted), 1) + 1 - dice


class Batches(keras.utils.PyDataset):
    """Images in 0–1 and class ids; shuffled and flipped at random if they train."""

    def __init__(self, images: np.ndarray, masks: np.ndarray, *, shuffled: bool) -> None:
        super().__init__()
        # Keras drops the last axis of logits if masks lack it.
        self.images, self.masks, self.shuffled = images, masks[..., None], shuffled
        self.order = np.arange(len(images))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.images) // BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        images, masks = self.images[chosen].astype(np.float32) / 255, self.masks[chosen]
        for axis in (0, 1) if self.shuffled else ():
            for k in np.flatnonzero(np.random.random(len(chosen)) < 0.5):
                images[k], masks[k] = np.flip(images[k], axis), np.flip(masks[k], axis)
        return images, masks

    def on_epoch_end(self) -> None:
        if self.shuffled:
            np.random.shuffle(self.order)


class StopAt(keras.callbacks.Callback):
    """Stop at a time of the monotonic clock, after the step that runs then."""

    def __init__(self, end_s: float) -> None:
        super().__init__()
        self.end_s = end_s

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if time.monotonic() > self.end_s:
            self.model.stop_training = True


if __name__ == "__main__":
    main()
