"""Train the U-Net of segmentation_models_pytorch with a ResNet-18 encoder, from scratch, as its examples do.

Dice + (binary) cross-entropy, Adam with a cosine, flips, shift, scale, turn, brightness and contrast, batches of 8. The
learning rate is 1e-3, because the examples' 2e-4 is for encoders that are trained already.
"""

from __future__ import annotations

import math
import time

import cv2
import given
import numpy as np
import segmentation_models_pytorch as smp
import torch

BATCH, LEARNING_RATE = 8, 1e-3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    args = given.arguments(__doc__).parse_args()
    start = time.monotonic()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    size = given.common_size(args.data)
    classes = len(given.read_config(args.data)[0])
    images, masks = given.read_split(args.data, "train", size)
    val_images, val_masks = given.read_split(args.data, "val", size)
    network = Normalised(smp.Unet("resnet18", encoder_weights=None, classes=1 if classes == 2 else classes))
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    loss_of = dice_and_cross_entropy(binary=classes == 2)
    best, least, epochs, done = None, math.inf, 0, 0.0
    while done < 1:
        network.train()
        order = rng.permutation(len(images))
        for first in range(0, max(1, len(order) - BATCH + 1), BATCH):
            done = (time.monotonic() - start) / (60 * args.minutes)
            if done >= 1:
                break
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
            pairs = [augmented(rng, images[k], masks[k]) for k in order[first : first + BATCH]]
            loss = loss_of(
                network(batch([image for image, _ in pairs])), torch.tensor(np.stack([m for _, m in pairs])).long()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epochs += 1
        network.eval()
        found = validate(network, loss_of, val_images, val_masks)
        print(f"epoch {epochs}: validation loss {found:.4f}", flush=True)
        if found < least:
            best, least = {name: value.clone() for name, value in network.state_dict().items()}, found
    train_s = time.monotonic() - start
    network.load_state_dict(best)
    example = (torch.zeros(1, 3, *size),)
    torch.onnx.export(network, example, args.out / "model.onnx", external_data=False, dynamo=True)
    given.write_card(
        args.out,
        model="model.onnx",
        output=None,
        size=size,
        color="rgb",
        layout="nchw",
        divisor=255,
        fit="stretch",
        parameters=sum(weight.numel() for weight in network.parameters()),
        epochs=epochs,
        train_s=train_s,
    )


class Normalised(torch.nn.Module):
    """A network that takes images in 0–1, and sees them as the encoders of the library expect them."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network((image - self.mean) / self.std)


def dice_and_cross_entropy(*, binary: bool):
    """Return the sum of the library's two losses, which leave out the pixels that do not count."""
    mode = "binary" if binary else "multiclass"
    dice = smp.losses.DiceLoss(mode, ignore_index=given.IGNORE)
    entropy = smp.losses.SoftBCEWithLogitsLoss(ignore_index=given.IGNORE) if binary else None
    entropy = entropy or torch.nn.CrossEntropyLoss(ignore_index=given.IGNORE)

    def loss_of(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        truth = ids[:, None].float() if binary else ids
        return dice(logits, truth) + entropy(logits, truth)

    return loss_of


@torch.no_grad()
def validate(network: torch.nn.Module, loss_of, images: np.ndarray, masks: np.ndarray) -> float:
    """Return the mean loss over the validation images."""
    losses = []
    for first in range(0, len(images), BATCH):
        ids = torch.tensor(masks[first : first + BATCH]).long()
        losses += [float(loss_of(network(batch(images[first : first + BATCH])), ids))] * len(ids)
    return float(np.mean(losses))


def batch(images: list[np.ndarray] | np.ndarray) -> torch.Tensor:
    """Return (N, 3, H, W) in 0–1 from (H, W, 3) uint8."""
    return torch.tensor(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def augmented(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pair mirrored, moved, scaled, turned and lit at random."""
    height, width = mask.shape
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if rng.random() < 0.5:
        move = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-20, 20), rng.uniform(0.8, 1.25))
        move[:, 2] += rng.uniform(-0.1, 0.1, 2) * (width, height)
        reflect = {"borderMode": cv2.BORDER_REFLECT_101}
        image = cv2.warpAffine(np.ascontiguousarray(image), move, (width, height), **reflect)
        mask = cv2.warpAffine(np.ascontiguousarray(mask), move, (width, height), flags=cv2.INTER_NEAREST, **reflect)
    if rng.random() < 0.5:
        image = np.clip(rng.uniform(0.8, 1.2) * (image - 127.5) + 127.5 + rng.uniform(-40, 40), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


if __name__ == "__main__":
    main()
