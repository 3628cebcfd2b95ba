"""What the frozen part of a network makes of each image: the same in all folds and epochs, so computed once.

PyTorch is loaded where it is computed, in the workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foldwise.base.files import Arrays, read_array
from foldwise.base.params import Params
from foldwise.data.folds import Fold
from foldwise.data.images import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

# Images that a worker takes at a time.
CHUNK = 1024


def are_shared(params: Params) -> bool:
    """Whether all folds and epochs give the frozen part the same pixels, or choose from the same views."""
    return (
        params.model.freeze
        and params.normalize.scope != "fold"
        and params.train.precision == "float32"
        and (not params.train.augment or params.model.views > 1)
        and params.evaluate.augment == "none"
    )


def views_of(params: Params) -> int:
    """How many versions of a training image are computed."""
    return params.model.views if params.train.augment else 1


def chunks(data: Images, views: int) -> Iterator[tuple[Fold, slice]]:
    """Training images in parts, each in the place of a fold, and test images after them, in parts of their own."""
    n, size = len(data.train_labels), max(CHUNK // views, 1)
    starts = [*range(0, n, size), *range(n, n + len(data.test_labels), size)]
    ends = [*starts[1:], n + len(data.test_labels)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        yield Fold(0, number), slice(start, end)


@dataclass(frozen=True)
class Freeze:
    """Give what the last layer is given, of a chunk of images.

    Attributes
    ----------
    images : Images
    params : Params
    weights : dict of arrays
        What the network starts from.
    """

    images: Images
    params: Params
    weights: Arrays

    def __call__(self, part: Fold, job: object) -> Arrays:
        """Give float32 `features` (n, V, F) of the chunk of that number; none where they would not be of use.

        The first of V views is the image as it is, the others are as `train.augment` changes it, whatever the seed. Of
        test images there is the first alone.
        """
        import torch

        from foldwise.learning.augmentation import chained
        from foldwise.learning.devices import prepare
        from foldwise.learning.prediction import BATCH_SIZE
        from foldwise.learning.randomness import generator, seed_torch, streams
        from foldwise.learning.starting import network

        device = prepare(self.params.compute)
        data, views, augment = self.images, views_of(self.params), chained(self.params.train.augment)
        where, n = dict(chunks(data, views))[part], len(data.train_labels)
        is_test = where.start >= n
        images = data.test_images[where.start - n : where.stop - n] if is_test else data.train_images[where]
        seed_torch(streams(0, Fold(0, 0)).weights)  # for what is drawn and no weight: alike in all chunks
        model, last = network(self.params, data, self.weights)
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = []
        for view in range(1 if is_test else views):
            random, batches = generator(streams(0, part).augmentation, view), []
            for start in range(0, len(images), BATCH_SIZE):
                batch = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device)
                features = features_of(model, last, augment(batch, random) if view else batch)
                if features is None:
                    return {}
                batches.append(features.cpu().numpy())
            found.append(np.concatenate(batches))
        return {"features": np.stack(found, axis=1)}


def read(path: Path) -> NDArray[np.float32] | None:
    """Map the features, (N + M, V, F), of training and then of test images; None where folds do not share them."""
    features = read_array(path, np.float32, 3, may_be_empty=True)
    return features if features.size else None


def on_features(model: "nn.Module", last: str) -> "nn.Module":
    """The part of a model that is trained: it takes features, (B, F), or (B, V, F) and of them the first view."""
    from torch import nn

    class FirstView(nn.Module):
        def forward(self, features: "Tensor") -> "Tensor":
            return features[:, 0] if features.ndim == 3 else features

    return nn.Sequential(FirstView(), model.get_submodule(last))


def features_of(model: "nn.Module", last: "tuple[str, ...]", images: "Tensor") -> "Tensor | None":
    """What the last layer of a model is given, (n, F) float32; None where that alone does not decide what it gives."""
    import torch

    from foldwise.learning.prediction import laid_out

    if len(last) > 1:
        return None
    given: list[tuple[Any, Tensor]] = []
    # A copy: what comes after the layer may change its output in place.
    hook = model.get_submodule(last[0]).register_forward_hook(
        lambda _, inputs, output: given.append((inputs, output.clone()))
    )
    with torch.inference_mode():
        output = model.eval()(laid_out(images))
    hook.remove()
    if len(given) != 1 or len(given[0][0]) != 1 or given[0][0][0].ndim != 2 or not torch.equal(given[0][1], output):
        return None
    features: Tensor = given[0][0][0].float()
    return features
