"""Which images each epoch takes, in which batches, and how much each counts; arrays and numbers alone."""

import math

import numpy as np
from numpy.typing import NDArray

from foldwise.base.params import Train

# Images that later epochs take at least: of fewer none can be spared, and they take little time.
FEWEST = 10_000

# What each image's chance to be taken has beside its gradient, so that no image counts for very many others.
LEAST_SCORE = 0.05


def batch_size(train: Train, n: int) -> int:
    """Images per step on n training images: where the recipe leaves it open, a 64th of them, from 32 to 256."""
    return train.batch_size or min(max(n // 64, 32), 256)


def images_by_epoch(train: Train, n: int) -> list[int]:
    """Number of images that each epoch takes of n: all of them in the first, those selected in the others."""
    later = math.ceil(train.selective_backprop * n)
    if train.importance_sampling < 1:
        later = max(math.ceil(train.importance_sampling * n), min(n, FEWEST))
    return [n] + [later] * (train.epochs - 1)


def steps_by_epoch(train: Train, n: int) -> list[int]:
    """Steps of each epoch on n training images."""
    return [math.ceil(images / batch_size(train, n)) for images in images_by_epoch(train, n)]


def balanced(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """How much each of n images counts, (n,), so that all classes that occur count alike; 1 in the mean of all.

    As scikit-learn's `class_weight="balanced"` (King and Zeng 2001).
    """
    classes, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(classes) * counts))[places].astype(np.float32)


def hardest(losses: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places of the `count` highest of losses (n,), ascending.

    Source: Jiang et al., "Accelerating deep learning by focusing on the biggest losers" (2019), with each image's loss
    from when it was last trained on.
    """
    return np.sort(np.argsort(-losses, kind="stable")[:count])


def by_importance(
    gradients: NDArray[np.float32], count: int, random: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Draw `count` of n images, the more probably the larger their gradient, and weigh each by what it stands for.

    The mean of any quantity over those drawn, each times its weight, has the mean over all n images as its expectation,
    whatever their labels: unlike that over the hardest images, it leaves the expected gradient as it is.

    Source: Katharopoulos and Fleuret, "Not all samples are created equal: deep learning with importance sampling"
    (2018), with gradients from when each image was last trained on; drawn without replacement by systematic sampling
    (Madow 1949), and weighed as by Horvitz and Thompson (1952).

    Parameters
    ----------
    gradients : (n,) float
        Norm of the loss's gradient in each image's logits.
    count : int
        At most n.
    random : numpy.random.Generator

    Returns
    -------
    places : (count,) int, ascending
    weights : (count,) float32
        count / n of the inverse of each one's chance; 1 in the mean of many draws.
    """
    scores = gradients.astype(np.float64) + LEAST_SCORE
    ordered = -np.sort(-scores)
    # Those whose share of what is left would be above one image are certain.
    tails = np.cumsum(ordered[::-1])[::-1]
    certain = int(np.argmax((count - np.arange(len(ordered))) * ordered <= tails))
    chances = np.minimum((count - certain) * scores / tails[certain], 1)
    order = random.permutation(len(scores))
    passed = np.floor(np.cumsum(chances[order]) + random.random())
    drawn = np.sort(order[np.diff(passed, prepend=0) > 0])
    return drawn, (count / len(scores) / chances[drawn]).astype(np.float32)
