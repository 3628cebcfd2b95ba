"""A network as it is before its first step."""

from collections.abc import Sequence

from torch import nn

from foldwise.base.files import Arrays
from foldwise.base.params import Params
from foldwise.data.images import Images
from foldwise.learning import elsewhere, models

Constants = tuple[Sequence[float], Sequence[float]]


def fresh(params: Params, data: Images, constants: Constants | None = None) -> nn.Module:
    """Make a network with fresh weights; parameters and errors are those of `network`."""
    if params.normalize.scope == "weights":
        constants = elsewhere.constants(params.model.name)
    mean, std = constants or (data.mean, data.std)
    return models.build(params.model.name, models.form_of(data), mean, std, params.model.options)


def network(
    params: Params, data: Images, weights: Arrays, constants: Constants | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """Make a network, with the weights that it starts from, and frozen where the parameters say so.

    Parameters
    ----------
    params : Params
    data : Images
    weights : dict of arrays
        What it starts from; empty for fresh weights, from PyTorch's generator.
    constants : pair of sequence of float, optional
        Mean and deviation by channel; by default the data set's, or those of the network's weights, as
        `normalize.scope` has it.

    Returns
    -------
    model : nn.Module
    last : tuple of str
        The names of its last layers, where it starts from given weights.

    Raises
    ------
    FoldwiseError
        If parameters, weights and images do not fit each other.
    """
    named, model = params.model, fresh(params, data, constants)
    if not (weights or named.freeze):
        return model, ()
    last = models.last_layers(named.name, models.form_of(data), named.options)
    if weights:
        models.start_from(model, weights, last)
    if named.freeze:
        models.freeze_all_but(model, last)
    return model, last
