"""The classic loop: a LeNet-like network on torchvision's MNIST, SGD with momentum, as PyTorch's own example began."""

import torch
from shared import TORCHVISION, arguments, folds, recipe, report
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(4 * 4 * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)


def main() -> None:
    parameters = recipe("cnn")
    options = arguments(parameters["train.epochs"]).parse_args()
    batch_size, lr = parameters["train.batch_size"], parameters["train.lr"]
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    dataset = datasets.MNIST(TORCHVISION, train=True, transform=transform)
    torch.manual_seed(0)
    accuracies = []
    for fold, (training, held_out) in enumerate(folds(dataset.targets.numpy())[: options.folds]):
        train_loader = DataLoader(Subset(dataset, training), batch_size=batch_size, shuffle=True)
        test_loader = DataLoader(Subset(dataset, held_out), batch_size=batch_size)
        model = Network()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=parameters["train.momentum"])

        for epoch in range(options.epochs):
            model.train()
            for data, target in train_loader:
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(data), target)
                loss.backward()
                optimizer.step()
            print(f"fold {fold} epoch {epoch + 1} loss {loss.item():.4f}", flush=True)

        model.eval()
        correct = 0
        with torch.no_grad():
            for data, target in test_loader:
                correct += (model(data).argmax(dim=1) == target).sum().item()
        accuracies.append(correct / len(held_out))
    report(accuracies)


if __name__ == "__main__":
    main()
