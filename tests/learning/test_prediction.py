import numpy as np
import pytest
import torch
from torch import nn

from foldwise.learning import prediction
from foldwise.learning.prediction import log_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")


class Scale(nn.Module):
    def forward(self, pixels):
        return pixels.float() / 255


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(Scale(), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(108, 4))


def images(n):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 1, 8, 8), np.uint8))


def test_they_are_the_logarithms_of_the_softmax(model):
    found = log_probabilities(model, images(5))
    with torch.no_grad():
        expected = torch.softmax(model.eval()(images(5)), dim=1)
    assert torch.allclose(found.exp(), expected, atol=1e-6)


@pytest.mark.parametrize("n", [1, prediction.BATCH_SIZE, prediction.BATCH_SIZE + 1, 3 * prediction.BATCH_SIZE - 1])
def test_every_image_is_predicted_in_order(n, model):
    alone = torch.cat([log_probabilities(model, image[None]) for image in images(n)[-3:]])
    found = log_probabilities(model, images(n))
    assert (found.shape, found.dtype) == ((n, 4), torch.float32)
    assert torch.allclose(found[-3:], alone, atol=1e-5)


def test_the_model_is_put_into_evaluation_mode(model):
    log_probabilities(model.train(), images(2))
    assert not model.training


def test_running_statistics_stay_as_they_are(model):
    before = model[2].running_mean.clone()
    log_probabilities(model.train(), images(2))
    assert torch.equal(model[2].running_mean, before)


def test_coarse_logits_are_made_float32_before_the_softmax(model):
    assert log_probabilities(nn.Sequential(model, nn.Identity().bfloat16()), images(2)).dtype == torch.float32


def moved(image, down, right):
    """Move by whole pixels, with 0 where nothing comes in."""
    found = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row, column in np.ndindex(height, width):
        if 0 <= row - down < height and 0 <= column - right < width:
            found[:, row, column] = image[:, row - down, column - right]
    return found


@pytest.mark.parametrize(("height", "width", "down", "right"), [(28, 40, 1, 1), (8, 56, 0, 2), (8, 8, 0, 0)])
def test_shifts_give_the_mean_logits_of_an_image_and_its_four_neighbours(height, width, down, right):
    model = nn.Sequential(Scale(), nn.Flatten(), nn.Linear(height * width, 4))
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, height, width), np.uint8))
    with torch.no_grad():
        moves = dict.fromkeys(((0, 0), (down, 0), (-down, 0), (0, right), (0, -right)))
        five = torch.stack([moved(image, *by) for by in moves])
        expected = model.eval()(five).mean(dim=0).log_softmax(dim=0)
    assert torch.allclose(log_probabilities(model, image[None], "shift")[0], expected, atol=1e-5)


def test_chosen_images_are_predicted_in_their_order(model):
    chosen = torch.tensor([700, 3, 3, 0])
    assert torch.equal(
        log_probabilities(model, images(701), chosen=chosen), log_probabilities(model, images(701)[chosen])
    )
