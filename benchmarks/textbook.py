"""The textbook loop: one small network, tensors in a DataLoader, Adam, as k-fold tutorials write it."""

import torch
from shared import arguments, folds, load, recipe, report
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 13 * 13, 10)
    )  # fmt: skip


def main() -> None:
    parameters = recipe("simple_cnn")
    options = arguments(parameters["train.epochs"]).parse_args()
    batch_size, lr = parameters["train.batch_size"], parameters["train.lr"]
    images, labels = load()
    inputs, targets = torch.from_numpy(images).float() / 255, torch.from_numpy(labels)
    torch.manual_seed(0)
    accuracies = []
    for fold, (training, held_out) in enumerate(folds(labels)[: options.folds]):
        train_loader = DataLoader(
            TensorDataset(inputs[training], targets[training]), batch_size=batch_size, shuffle=True
        )
        test_loader = DataLoader(TensorDataset(inputs[held_out], targets[held_out]), batch_size=batch_size)
        model = network()
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)

        for epoch in range(options.epochs):
            model.train()
            running_loss = 0.0
            for x, y in train_loader:
                optimizer.zero_grad()
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                running_loss += loss.item()
            print(f"fold {fold} epoch {epoch + 1} loss {running_loss / len(train_loader):.4f}", flush=True)

        model.eval()
        correct = 0
        with torch.no_grad():
            for x, y in test_loader:
                correct += (model(x).argmax(dim=1) == y).sum().item()
        accuracies.append(correct / len(held_out))
    report(accuracies)


if __name__ == "__main__":
    main()
