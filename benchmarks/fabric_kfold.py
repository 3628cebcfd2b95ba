"""Foldwise's network and recipe in the way of Lightning Fabric's k-fold example: epochs outside, folds inside."""

import math
from functools import partial
from pathlib import Path

import torch
from shared import TORCHVISION, arguments, folds, needed, report
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, SubsetRandomSampler
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, InterpolationMode, PILToTensor, RandomAffine, RandomCrop

from foldwise.base import params
from foldwise.learning import models
from foldwise.learning.networks import ImageForm
from foldwise.learning.optimization import Muon, learning_rate, make_optimizer

with needed():
    from lightning_fabric import Fabric, seed_everything

# Foldwise's augmentations in torchvision's words.
AUGMENTATIONS = {
    "shift": [RandomCrop(28, padding=2)],
    "affine": [RandomAffine(10, (2 / 28, 2 / 28), (0.9, 1.1), interpolation=InterpolationMode.BILINEAR)],
}


class Optimizer(torch.optim.Optimizer):
    """Foldwise's optimiser in the form that Fabric and PyTorch's schedulers ask for."""

    def __init__(self, wrapped: torch.optim.Optimizer | Muon) -> None:
        super().__init__(wrapped.param_groups, {})
        self.wrapped = wrapped

    def step(self, closure: None = None) -> None:
        self.wrapped.step()


def main() -> None:
    options = arguments().parse_args()
    configured = params.load(Path("params.yaml"))
    train = configured.train
    epochs = options.epochs or train.epochs
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed" if train.precision == "bfloat16" else "32-true")
    seed_everything(1)
    changes = [change for kind in train.augment for change in AUGMENTATIONS[kind]]
    train_set = MNIST(TORCHVISION, train=True, transform=Compose([*changes, PILToTensor()]))
    test_set = MNIST(TORCHVISION, train=True, transform=PILToTensor())
    splits = folds(train_set.targets.numpy())[: options.folds]
    steps = math.ceil(len(splits[0][0]) / train.batch_size) * epochs
    share_of_peak = partial(learning_rate, steps=steps, schedule=train.schedule, peak=1)

    form = ImageForm(1, 28, 28, 10, 2)
    networks = [models.build(configured.model.name, form, (0.1307,), (0.3081,)) for _ in splits]
    optimizers = [Optimizer(make_optimizer(network, train)) for network in networks]
    schedulers = [LambdaLR(optimizer, share_of_peak) for optimizer in optimizers]
    for i in range(len(splits)):
        networks[i], optimizers[i] = fabric.setup(networks[i], optimizers[i])

    for epoch in range(1, epochs + 1):
        accuracies = []
        for fold, (training, held_out) in enumerate(splits):
            train_loader = DataLoader(train_set, batch_size=train.batch_size, sampler=SubsetRandomSampler(training))
            test_loader = DataLoader(test_set, batch_size=train.batch_size, sampler=SubsetRandomSampler(held_out))
            train_loader, test_loader = fabric.setup_dataloaders(train_loader, test_loader)
            model = networks[fold]

            model.train()
            for data, target in train_loader:
                model.zero_grad()
                loss = functional.cross_entropy(model(data), target, label_smoothing=train.label_smoothing)
                fabric.backward(loss)
                optimizers[fold].step()
                schedulers[fold].step()

            model.eval()
            correct = 0
            with torch.no_grad():
                for data, target in test_loader:
                    correct += (model(data).argmax(dim=1) == target).sum().item()
            accuracies.append(correct / len(held_out))
            print(f"epoch {epoch} fold {fold} accuracy {accuracies[-1]:.4f}", flush=True)
    report(accuracies)


if __name__ == "__main__":
    main()
