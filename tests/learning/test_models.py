import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from foldwise.base.errors import FoldwiseError
from foldwise.learning import elsewhere, models, networks
from foldwise.learning.networks import NETWORKS, ImageForm

pytestmark = pytest.mark.usefixtures("one_thread")

MNIST = ImageForm(1, 28, 28, 10)
FORMS = {
    "mnist": MNIST,
    "cifar10": ImageForm(3, 32, 32, 10),
    "digits": ImageForm(1, 8, 8, 10),
    "16 x 21": ImageForm(1, 16, 21, 10),
}
OTHERS = "they are of another one; make model.weights_file and model.name agree"
names = pytest.mark.parametrize("name", NETWORKS)


def build(name, form=MNIST):
    return models.build(name, form, [0.3] * form.channels, [0.2] * form.channels)


def pixels(form, n=4):
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (n, *form[:3]), np.uint8))


def start(name, weights, model=None):
    """Start a model from weights, and give it."""
    model = build(name) if model is None else model
    models.start_from(model, weights, models.last_layers(name, MNIST))
    return model


def weights_of(model):
    """Give the weights of a network of `build` as torchvision names them: without the normalisation before it."""
    return {name[2:]: tensor.numpy().copy() for name, tensor in model.state_dict().items() if name.startswith("1.")}


@pytest.mark.parametrize(("name", "count"), [("simple_cnn", 54_410), ("cnn", 431_080)])
def test_the_classic_networks_have_their_well_known_sizes_on_mnist(name, count):
    assert sum(weight.numel() for weight in build(name).parameters()) == count


@names
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_network_trains_a_step_on_every_form_of_images(name, form):
    model = build(name, form)
    before = [weight.detach().clone() for weight in model.parameters()]
    functional.cross_entropy(model(pixels(form)), torch.tensor([0, 1, 2, 9])).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all((a != b).any() for a, b in zip(before, model.parameters(), strict=True))


@names
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_network_gives_one_logit_per_class(name, form):
    assert build(name, form._replace(classes=7)).eval()(pixels(form)).shape == (4, 7)


@names
def test_equal_seeds_give_equal_fresh_weights(name):
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(build(name).state_dict())
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


def test_normalisation_is_that_of_the_0_to_1_scale():
    form = FORMS["cifar10"]
    images = pixels(form)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    expected = (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    normalize = models.Normalize(mean.tolist(), std.tolist())
    assert torch.allclose(normalize(images), expected, atol=1e-5)


def test_normalisation_takes_floats_on_the_scale_of_bytes():
    normalize = models.Normalize([0.3], [0.2])
    assert torch.equal(normalize(pixels(MNIST)), normalize(pixels(MNIST).float()))


def test_normalisation_constants_are_kept_with_the_weights():
    assert models.Normalize([0.3], [0.2]).state_dict().keys() == {"mean", "std"}


def test_grey_images_are_repeated_in_resnets_three_channels():
    grey, colour = build("resnet18", MNIST).eval(), build("resnet18", MNIST._replace(channels=3)).eval()
    colour[1].load_state_dict(grey[1].state_dict())
    images = pixels(MNIST)
    assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-5)


OTHER_NAMES = "torchvision:NAME, timm:NAME, own/FILE.py:FUNCTION"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("nobodies_cn", "did you mean nobodys_cnn?"), ("vit", f"use one of nobodys_cnn, other, {OTHER_NAMES}")],
)
def test_an_unknown_network_is_told(name, hint, monkeypatch):
    monkeypatch.setattr(elsewhere, "NETWORKS", {"nobodys_cnn": networks.cnn, "other": networks.cnn})
    with pytest.raises(FoldwiseError) as caught:
        build(name)
    assert str(caught.value) == f"params.yaml: model.name is '{name}', which is not known: {hint}"


def test_the_form_is_that_of_the_data(digits):
    assert models.form_of(digits) == FORMS["digits"]


def test_starting_weights_fill_all_but_the_last_layer():
    model, source = build("resnet18"), build("resnet18", MNIST._replace(classes=1000))
    before, weights = weights_of(model), weights_of(source)
    start("resnet18", weights, model)
    after = weights_of(model)
    assert {name for name in after if np.array_equal(after[name], before[name])} >= {"fc.weight", "fc.bias"}
    assert all(np.array_equal(after[name], weights[name]) for name in after if not name.startswith("fc."))


def test_starting_weights_need_no_count_of_batches_which_torchvisions_file_of_resnet18_lacks():
    model, weights = build("resnet18"), weights_of(build("resnet18", MNIST._replace(classes=1000)))
    given = {name: array for name, array in weights.items() if not name.endswith("num_batches_tracked")}
    start("resnet18", given, model)
    after = weights_of(model)
    assert len(given) < len(weights)
    assert all(np.array_equal(after[name], given[name]) for name in given if not name.startswith("fc."))


def test_starting_weights_leave_the_normalisation_alone():
    model = start("cnn", weights_of(models.build("cnn", MNIST, [0.9], [0.9])))
    assert float(model.state_dict()["0.mean"]) == pytest.approx(0.3)


def test_starting_weights_of_another_shape_are_told():
    weights = weights_of(build("cnn")) | {"0.weight": np.zeros((20, 1, 3, 3), np.float32)}
    with pytest.raises(FoldwiseError) as caught:
        start("cnn", weights)
    told = f"the weights to start from lack 0.weight of this network's shape: {OTHERS}"
    assert str(caught.value) == told


def test_starting_weights_of_a_smaller_network_are_told():
    weights = {name: array for name, array in weights_of(build("cnn")).items() if name != "7.bias"}
    with pytest.raises(FoldwiseError, match=r"^the weights to start from lack 7.bias of this network's shape"):
        start("cnn", weights)


def test_starting_weights_of_a_larger_network_are_told():
    from torchvision.models import resnet34

    weights = {name: tensor.numpy() for name, tensor in resnet34().state_dict().items()}
    with pytest.raises(FoldwiseError) as caught:
        start("resnet18", weights)
    told = f"the weights to start from hold layer1.2.conv1.weight, which this network has not: {OTHERS}"
    assert str(caught.value) == told


def test_where_no_layer_depends_on_the_classes_which_is_the_last_is_asked_and_not_guessed(odd):
    odd(lambda form: Outputs(lambda flat: flat.sum(dim=1, keepdim=True)))
    with pytest.raises(FoldwiseError) as caught:
        start("odd", {})
    told = "which layer of odd is its last cannot be known, as its weights for the classes are in no layer of their own"
    assert str(caught.value) == f"{told}: set model.freeze to false, and start from fresh weights"


@names
def test_freezing_leaves_the_last_linear_layer_alone_to_be_trained(name):
    model = build(name, MNIST._replace(classes=7))
    models.freeze_all_but(model, models.last_layers(name, MNIST._replace(classes=7)))
    assert {len(weight) for weight in model.parameters() if weight.requires_grad} == {7}


@names
def test_trained_weights_come_back(name):
    model, other = build(name), models.build(name, MNIST, [0.9], [0.9])
    weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    models.load_weights(other, weights)
    assert torch.equal(other.eval()(pixels(MNIST)), model.eval()(pixels(MNIST)))


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_trained_weights_of_another_network_are_told(change):
    weights = {name: tensor.numpy().copy() for name, tensor in build("cnn").state_dict().items()}
    if change == "missing":
        del weights["1.0.bias"]
    else:
        weights["extra" if change == "extra" else "1.0.bias"] = np.zeros(3, np.float32)
    with pytest.raises(FoldwiseError, match=r"^holds the weights of another network$"):
        models.load_weights(build("cnn"), weights)


@pytest.fixture
def odd(monkeypatch):
    """Let a network be known as `odd`."""
    return lambda network: monkeypatch.setitem(NETWORKS, "odd", network)


class Outputs(nn.Module):
    """Give what a function makes of the flattened images, plus a weight for each class."""

    def __init__(self, give, *, trained=True, weight=torch.float32, classes=10):
        super().__init__()
        self.weight, self.give = nn.Parameter(torch.zeros(classes, dtype=weight), requires_grad=trained), give

    def forward(self, images):
        return self.give(images.flatten(1)) + self.weight


class WhenTraining(nn.Module):
    """Go wrong in training alone."""

    def __init__(self, wrong):
        super().__init__()
        self.linear, self.wrong = nn.Linear(784, 10), wrong

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        return self.wrong(logits) if self.training else logits


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(784, 10), nn.LazyLinear(10)

    def forward(self, images):
        return self.used(images.flatten(1))


class Squeeze(nn.Module):
    def forward(self, logits):
        return logits.squeeze()


class Pair(nn.Module):
    def forward(self, logits):
        return logits, logits


def first(flat):
    return flat[:, :1]


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.counts = nn.Embedding(256, 10, sparse=True)

    def forward(self, images):
        return self.counts(images.flatten(1).long().clamp(0, 255)).mean(dim=1)


def fail(logits):
    raise ValueError("no such thing\nand more")


def unlearnable(logits):
    logits.register_hook(fail)
    return logits


WANTED = "where (2, 10) floats are wanted of 2 images"
DEPEND = "gives logits that depend on no weight that is trained"
FAULTS = {
    "twelve": (lambda form: Outputs(first, classes=12), f"gives (2, 12) float32 in evaluation, {WANTED}"),
    "five": (lambda form: Outputs(first, classes=5), f"gives (2, 5) float32 in evaluation, {WANTED}"),
    "squeezed": (
        lambda form: nn.Sequential(Outputs(first), Squeeze()),
        "gives (10,) float32 in evaluation, where (1, 10) floats are wanted of 1 images",
    ),
    "tuple": (lambda form: nn.Sequential(Outputs(first), Pair()), f"gives a tuple in evaluation, {WANTED}"),
    "tuple in training": (
        lambda form: WhenTraining(lambda logits: (logits, logits)),
        f"gives a tuple in training, {WANTED}",
    ),
    "whole numbers": (
        lambda form: WhenTraining(lambda logits: logits.argsort(dim=1)),
        f"gives (2, 10) int64 in training, {WANTED}",
    ),
    "not finite": (
        lambda form: Outputs(lambda flat: first(flat) * torch.inf),
        "gives logits that are not finite in evaluation",
    ),
    "detached": (lambda form: WhenTraining(torch.detach), DEPEND),
    "no weights": (lambda form: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(form.classes)), DEPEND),
    "sparse": (lambda form: Sparse(), "has sparse gradients of counts.weight, which no optimiser takes"),
    "backward": (lambda form: WhenTraining(unlearnable), "fails on images of 1 x 28 x 28 (ValueError: no such thing)"),
    "frozen": (lambda form: Outputs(first, trained=False), DEPEND),
    "unused lazy layer": (lambda form: Unused(), "has a lazy layer that no image passes in evaluation"),
    "bfloat16": (
        lambda form: Outputs(first, weight=torch.bfloat16),
        "keeps weight as torch.bfloat16, which no file takes",
    ),
    "forward": (
        lambda form: WhenTraining(fail),
        "fails on images of 1 x 28 x 28 (ValueError: no such thing)",
    ),
    "constructor": (
        lambda form: nn.Linear(-form.height, form.classes),
        "fails on images of 1 x 28 x 28 (RuntimeError: Trying to create tensor with negative dimension -28: [10, -28])",
    ),
}


@pytest.mark.parametrize(("network", "told"), FAULTS.values(), ids=FAULTS)
def test_a_network_that_cannot_be_trained_or_kept_is_told_when_it_is_made(network, told, odd):
    odd(network)
    with pytest.raises(FoldwiseError) as caught:
        build("odd")
    remedy = "mend it in src/foldwise/learning/networks.py, or set another model.name"
    assert str(caught.value) == f"the network odd {told}: {remedy}"


def lazy(form):
    layers = nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(form.classes)
    return nn.Sequential(*layers)


def test_lazy_layers_get_their_weights_from_the_seed_and_come_back(odd):
    odd(lazy)
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(build("odd"))
    one, other = (model.state_dict() for model in made)
    assert all(torch.equal(one[name], other[name]) for name in one)
    models.load_weights(build("odd"), weights := {name: tensor.numpy() for name, tensor in one.items()})
    assert weights["1.3.weight"].shape == (10, 4 * 26 * 26)


@names
def test_a_network_is_made_with_fresh_running_statistics_and_in_training_mode(name):
    made, fresh = build(name), NETWORKS[name](MNIST)
    statistics = {name: value for name, value in made[1].named_buffers() if "running" in name or "tracked" in name}
    assert all(torch.equal(value, fresh.get_buffer(name)) for name, value in statistics.items())
    assert all(module.training for module in made.modules())


def test_a_network_may_divide_by_an_images_contrast(odd):
    odd(lambda form: Outputs(lambda flat: first(flat) / flat.std(dim=1, keepdim=True)))
    assert build("odd")
