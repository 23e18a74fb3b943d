"""A small Keras U-Net as in many notebooks: define, compile, fit, evaluate, predict; and from there to a model package.

python examples/keras_unet.py WORK [EPOCHS]

WORK is a new folder for the images, the model and the package. The default of 10 epochs takes about a minute on two
cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import layers

from edge_runtime import Segmenter
from export import export_model
from training import SynthSize, write_synthetic_dataset

if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
work = Path(sys.argv[1])
epochs = int(sys.argv[2]) if len(sys.argv) == 3 else 10

# Images and masks in arrays, as a notebook has them: RGB in 0-1, and 1 where there is an object.
write_synthetic_dataset(work / "pictures", seed=1, size=SynthSize(train=120, val=24, test=4, video_frames=1))


def read(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images, (N, 128, 128, 3) in 0-1, and masks, (N, 128, 128, 1) of 0 and 1."""
    images = sorted((work / "pictures" / split / "images").iterdir())
    masks = sorted((work / "pictures" / split / "masks").iterdir())
    rgb = [cv2.resize(cv2.imread(str(path))[..., ::-1], (128, 128), interpolation=cv2.INTER_AREA) for path in images]
    ids = [cv2.resize(cv2.imread(str(path), 0), (128, 128), interpolation=cv2.INTER_NEAREST) for path in masks]
    return np.stack(rgb) / 255.0, (np.stack(ids) > 0).astype(np.float32)[..., np.newaxis]


X_train, Y_train = read("train")
X_val, Y_val = read("val")


def unet_model() -> keras.Model:
    """Return a U-Net of three levels."""
    inputs = keras.Input((128, 128, 3))
    c1 = layers.Conv2D(16, 3, activation="relu", padding="same")(inputs)
    c1 = layers.Conv2D(16, 3, activation="relu", padding="same")(c1)
    c2 = layers.Conv2D(32, 3, activation="relu", padding="same")(layers.MaxPooling2D()(c1))
    c2 = layers.Conv2D(32, 3, activation="relu", padding="same")(c2)
    c3 = layers.Conv2D(64, 3, activation="relu", padding="same")(layers.MaxPooling2D()(c2))
    c3 = layers.Conv2D(64, 3, activation="relu", padding="same")(layers.Dropout(0.1)(c3))
    u2 = layers.concatenate([layers.Conv2DTranspose(32, 2, strides=2, padding="same")(c3), c2])
    c4 = layers.Conv2D(32, 3, activation="relu", padding="same")(u2)
    u1 = layers.concatenate([layers.Conv2DTranspose(16, 2, strides=2, padding="same")(c4), c1])
    c5 = layers.Conv2D(16, 3, activation="relu", padding="same")(u1)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(c5))


keras.utils.set_random_seed(0)
model = unet_model()
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
model.summary()
model.fit(X_train, Y_train, batch_size=8, epochs=epochs, validation_split=0.1, verbose=2)
model.evaluate(X_val, Y_val, verbose=2)
model.predict(X_val[:1], verbose=0)

# From here to the device: the package has the same masks, in ONNX, checked on X_val.
package = work / "package"
manifest = export_model(model, X_val, Y_val, classes=["background", "object"], out=package, note=print)
print(
    f"mean IoU: Keras {manifest.metrics['keras']['mean_iou']:.3f}, package {manifest.metrics['fp32']['mean_iou']:.3f}"
)
picture = sorted((work / "pictures" / "test" / "images").iterdir())[0]
print(Segmenter.load(package)(cv2.imread(str(picture))).fractions())
print(f"next: edge-unet run {package} --source {picture.parent} --save {work / 'results'}")
