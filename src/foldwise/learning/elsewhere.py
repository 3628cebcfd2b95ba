"""Networks from elsewhere: torchvision's, timm's, and functions of the user's own."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from foldwise.base.errors import FoldwiseError, chosen
from foldwise.base.params import is_own
from foldwise.learning import own_code
from foldwise.learning.networks import NETWORKS, ImageForm, three_channels

Make = Callable[[ImageForm], nn.Module]

# Of these, the attention is made for images of one size; others take any that are large enough.
_OF_ONE_SIZE = ("maxvit_", "vit_")
# Torchvision's heads in the middle of a network, for training from scratch in the manner of 2014; files of weights have
# them.
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")


def find(name: str, options: Mapping[str, Any]) -> Make:
    """Give the function that makes the network of a name.

    Parameters
    ----------
    name : str
        A built-in one, `torchvision:NAME`, `timm:NAME` or `own/FILE.py:FUNCTION`.
    options : mapping
        What else it is to be made with.

    Raises
    ------
    FoldwiseError
        If there is none of that name, or it does not take the options.
    """
    library = name.partition(":")[0]
    if library == "torchvision":
        return _torchvision(name, options)
    if library == "timm":
        return _timm(name, options)
    if is_own(name):
        makes = own_code.function("model.name", name)
        own_code.check_options(name, makes, 4, options)
        return lambda form: cast(nn.Module, makes(*form[:4], **options))
    others = ("torchvision:NAME", "timm:NAME", "own/FILE.py:FUNCTION")
    network = chosen("model.name", name, NETWORKS, others)
    if options:
        raise FoldwiseError(f"params.yaml: model.options has {next(iter(options))}, but {name} takes none: remove it")
    return network


def _torchvision(name: str, options: Mapping[str, Any]) -> Make:
    from torchvision import models

    network = chosen("model.name", name, {f"torchvision:{network}": network for network in models.list_models(models)})
    least = models.get_model_weights(network).DEFAULT.meta["min_size"]
    settings: dict[str, Any] = {}
    if network.startswith("vit_"):
        settings = {"image_size": options.get("image_size", least[0])}
        least = [settings["image_size"]] * 2
    elif network.startswith("maxvit_"):
        least = options.get("input_size", least)
    if network in ("googlenet", "inception_v3"):
        settings = {"aux_logits": False, "init_weights": True, "transform_input": True}

    def make(form: ImageForm) -> nn.Module:
        made = models.get_model(network, weights=None, num_classes=form.classes, **(settings | dict(options)))
        return _fitted(made, form, least, is_the_only_one=network.startswith(_OF_ONE_SIZE))

    return make


def _timm(name: str, options: Mapping[str, Any]) -> Make:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise FoldwiseError(
            f"params.yaml: model.name is {name}, and timm is not installed: `make -B .venv/installed` brings it"
        ) from error

    network = chosen("model.name", name, {f"timm:{network}": network for network in timm.list_models()})
    documented = timm.get_pretrained_cfg(network)

    size: Sequence[int] = (0, 0)
    is_the_only_one = "img_size" in options or bool(documented and documented.fixed_input_size)
    if documented and documented.fixed_input_size:
        size = documented.input_size[1:]
    elif documented and documented.min_input_size:
        size = documented.min_input_size[1:]

    def make(form: ImageForm) -> nn.Module:
        made = timm.create_model(network, pretrained=False, num_classes=form.classes, **options)
        fitting = np.broadcast_to(options.get("img_size", size), 2).tolist()
        return _fitted(made, form, fitting, is_the_only_one=is_the_only_one)

    return make


def constants(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give the mean and the deviation, on the 0-1 scale, of three channels, that a network's published weights expect.

    Raises
    ------
    FoldwiseError
        If the network has no published weights.
    """
    library, _, network = name.rpartition(":")
    find(name, {})
    if library == "torchvision" or name == "resnet18":
        from torchvision.models import get_model_weights

        transforms = get_model_weights(network).DEFAULT.transforms()
        return tuple(transforms.mean), tuple(transforms.std)
    if library == "timm":
        import timm

        if documented := timm.get_pretrained_cfg(network):
            return tuple(documented.mean), tuple(documented.std)
    raise FoldwiseError(
        f"params.yaml: normalize.scope is weights, but nothing is known of the weights of {name}: set it to fold"
    )


def _fitted(network: nn.Module, form: ImageForm, size: Sequence[int], *, is_the_only_one: bool) -> nn.Module:
    """Let a network of coloured images take grey ones, and resize those too small for it or unlike its only size."""
    if form.channels == 1:
        network.register_forward_pre_hook(three_channels)
    height, width = size if is_the_only_one else (max(form.height, size[0]), max(form.width, size[1]))
    if (height, width) != (form.height, form.width):
        network.register_forward_pre_hook(partial(_resized, (height, width)))
    return network


def _resized(size: tuple[int, int], _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (functional.interpolate(inputs[0], size, mode="bilinear", antialias=True),)
