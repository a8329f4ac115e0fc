"""The small net, trained on the reference set, that selects the images of the adversarial domain.

RIB ships it as `models/zoo/digits_adversary.safetensors`; `train_adversary` is the recipe that trained it.
"""

from functools import cache
from importlib.resources import as_file, files

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rib.data.digits.draws import seed_of

FILE = "digits_adversary.safetensors"
EPOCHS, BATCH, RATE = 12, 50, 3e-3


def adversary_architecture() -> nn.Sequential:
    """Three strided convolutions and a linear layer, 10k parameters, for [N, 3, 28, 28]."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2, padding=1),
        nn.GroupNorm(3, 12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.GroupNorm(3, 24),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def centred(images: Tensor) -> Tensor:
    """Turn uint8 [N, 28, 28, 3] into the adversary's input, float [N, 3, 28, 28]."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0


def train_adversary(images: Tensor, labels: Tensor) -> nn.Sequential:
    """Train from scratch on reference renderings, uint8 [N, 28, 28, 3], labels int64 [N]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("adversary", "weights"))
        model = adversary_architecture()
    order = torch.Generator().manual_seed(seed_of("adversary", "order"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        shuffled = torch.randperm(len(labels), generator=order)
        for batch in torch.split(shuffled[: len(labels) // BATCH * BATCH], BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(centred(images[batch])), labels[batch])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


@cache
def shipped_adversary() -> nn.Sequential:
    from safetensors.torch import load_file

    model = adversary_architecture()
    with as_file(files("rib") / "models" / "zoo" / FILE) as path:
        model.load_state_dict(load_file(path))
    return model.eval()


@torch.inference_mode()
def fools_adversary(images: Tensor, labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Whether the shipped net, restricted to `classes`, predicts a wrong class: bool [N]."""
    asked = torch.tensor(classes)
    logits = shipped_adversary()(centred(images))[:, asked]
    return asked[logits.argmax(1)] != labels
