import runpy
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from foldwise.base import files
from foldwise.base.errors import FoldwiseError
from foldwise.learning import models, networks

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
weights = runpy.run_path(str(ROOT / "stages" / "weights.py"))["weights"]


def test_fresh_weights_are_an_empty_file(parameters, tmp_path):
    weights(parameters(), weights=tmp_path / "data" / "weights.safetensors")
    assert files.read_arrays(tmp_path / "data" / "weights.safetensors") == {}


@pytest.fixture
def of_a_file(parameters, tmp_path):
    return parameters({"model.name": "resnet18", "model.weights_file": str(tmp_path / "weights.pth")})


def test_a_network_starts_from_torchvisions_own_file(of_a_file, tmp_path):
    torch.manual_seed(0)
    state = resnet18().state_dict()
    torch.save(state, tmp_path / "weights.pth")
    weights(of_a_file, weights=tmp_path / "weights.safetensors")
    form = networks.ImageForm(1, 28, 28, 10)
    model = models.build("resnet18", form, [0.5], [0.5])
    last = models.last_layers("resnet18", form)
    models.start_from(model, files.read_arrays(tmp_path / "weights.safetensors"), last)
    found = model.state_dict()
    assert all(torch.equal(found[f"1.{name}"], state[name]) for name in state if not name.startswith("fc."))


def test_a_file_that_cannot_be_read_leaves_nothing_behind(of_a_file, tmp_path):
    (tmp_path / "weights.pth").write_text("hello")
    with pytest.raises(FoldwiseError, match=r"weights.pth is not a whole file of weights"):
        weights(of_a_file, weights=tmp_path / "out" / "weights.safetensors")
    assert not (tmp_path / "out").exists()
