"""Networks of torchvision, of timm, and of the user's own."""

import sys
import textwrap

import pytest
import timm
import torch
from torch.nn import functional

from foldwise.base.errors import FoldwiseError
from foldwise.learning import elsewhere, models, optimization
from foldwise.learning.networks import ImageForm

pytestmark = pytest.mark.usefixtures("one_thread")

GREY, COLOUR = ImageForm(1, 64, 64, 5), ImageForm(3, 64, 64, 5)


def build(name, form=GREY, **options):
    return models.build(name, form, [0.3] * form.channels, [0.2] * form.channels, options)


def pixels(form, n=2):
    return torch.randint(0, 256, (n, *form[:3]), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def learn_and_come_back(name, form, **options):
    """Take a step, and give the logits of the model, and of one that has its weights."""
    model = build(name, form, **options)
    functional.cross_entropy(model(pixels(form)), torch.tensor([0, 4])).backward()
    torch.optim.SGD(model.parameters(), lr=1e-6).step()
    weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    other = build(name, form, **options)
    models.load_weights(other, weights)
    with torch.no_grad():
        return (made.eval()(pixels(form, 3)) for made in (model, other))


# The smallest of each family that torchvision has, and what its last layer is called.
FAMILIES = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "efficientnet_v2_s": "classifier.1",
    "googlenet": "fc",
    "inception_v3": "fc",
    "maxvit_t": "classifier.5",
    "mnasnet0_5": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "regnet_x_400mf": "fc",
    "regnet_y_400mf": "fc",
    "resnet18": "fc",
    "resnext50_32x4d": "fc",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_1": "classifier.1",
    "swin_t": "head",
    "swin_v2_t": "head",
    "vgg11": "classifier.6",
    "vgg11_bn": "classifier.6",
    "vit_b_32": "heads.head",
    "wide_resnet50_2": "fc",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("network", FAMILIES)
def test_a_network_of_each_of_torchvisions_families_learns_and_comes_back(network, form):
    logits, again = learn_and_come_back(f"torchvision:{network}", form)
    assert logits.shape == (3, 5)
    assert torch.equal(logits, again)


@pytest.mark.parametrize("network", FAMILIES)
def test_the_last_layer_is_the_one_that_knows_the_classes(network):
    assert models.last_layers(f"torchvision:{network}", COLOUR) == (f"1.{FAMILIES[network]}",)


def test_resnet18_is_torchvisions():
    short, long = (build(name, COLOUR)[1].state_dict() for name in ("resnet18", "torchvision:resnet18"))
    assert {name: weight.shape for name, weight in short.items()} == {name: long[name].shape for name in long}


def test_options_reach_torchvision():
    assert build("torchvision:mobilenet_v2", dropout=0.7)[1].classifier[0].p == 0.7


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("torchvision:resnet19", "did you mean torchvision:resnet1"),
        ("torchvision:", "did you mean torchvision:"),
        ("torchvision:fasterrcnn_resnet50_fpn", "did you mean torchvision:"),
        ("resnet50", "did you mean resnet18?"),
    ],
)
def test_a_name_that_torchvision_has_not_is_told(name, hint):
    with pytest.raises(FoldwiseError, match=f"^params.yaml: model.name is '{name}', which is not known: {hint}"):
        build(name)


def test_an_option_that_torchvision_does_not_take_is_told():
    with pytest.raises(FoldwiseError) as caught:
        build("torchvision:resnet18", dropout=0.5)
    told = "TypeError: ResNet.__init__() got an unexpected keyword argument 'dropout'"
    start = "the network torchvision:resnet18 fails on images of 1 x 64 x 64"
    remedy = "correct model.options, set data.image_size to larger images"
    assert str(caught.value) == f"{start} ({told}): {remedy}, or set another model.name"


def test_an_option_of_a_built_in_network_is_told():
    with pytest.raises(FoldwiseError, match=r"^params.yaml: model.options has hidden, but cnn takes none: remove it$"):
        build("cnn", hidden=3)


# A small one of each kind that timm has, and its options.
TIMM = {
    "convolutions": ("test_efficientnet", {}),
    "convolutions and layer norm": ("test_convnext", {}),
    "no batch norm": ("test_nfnet", {}),
    "transformer": ("test_vit", {}),
    "transformer for small images": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2}),
    "MLP": ("gmlp_ti16_224", {}),
    "mixer": ("mixer_s32_224", {}),
    "both": ("test_coatnet", {}),
}


@pytest.mark.parametrize("form", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(("network", "options"), TIMM.values(), ids=TIMM)
def test_a_network_of_each_of_timms_kinds_learns_and_comes_back(network, options, form):
    logits, again = learn_and_come_back(f"timm:{network}", form, **options)
    assert logits.shape == (3, 5)
    assert torch.equal(logits, again)
    assert len(models.last_layers(f"timm:{network}", form, options)) == 1


def test_timms_published_weights_fit_grey_images_too():
    made = timm.create_model("test_vit", num_classes=1000)
    weights = {name: tensor.numpy() for name, tensor in made.state_dict().items()}
    model = build("timm:test_vit", GREY)
    models.start_from(model, weights, models.last_layers("timm:test_vit", GREY))
    assert torch.equal(model[1].cls_token, made.cls_token)


def test_a_network_without_timm_is_told_how_to_bring_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(FoldwiseError, match=r"timm is not installed: `make -B .venv/installed` brings it$"):
        build("timm:test_vit")


def test_a_name_that_timm_has_not_is_told():
    with pytest.raises(FoldwiseError, match=r"'timm:test_vitt', which is not known: did you mean timm:test_vit"):
        build("timm:test_vitt")


def test_the_constants_are_those_of_the_published_weights():
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert elsewhere.constants("torchvision:resnet18") == elsewhere.constants("resnet18") == imagenet
    assert elsewhere.constants("timm:test_vit") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(FoldwiseError, match=r"nothing is known of the weights of cnn: set it to fold$"):
        elsewhere.constants("cnn")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a file of one's own, own/nets.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()

    def write(code, name="nets.py"):
        (tmp_path / "own" / name).write_text("from torch import nn\n" + textwrap.dedent(code))

    return write


FLAT = "nn.Flatten(), nn.LazyLinear(classes)"
ODD = {
    "dropout": f"nn.Sequential(nn.Dropout(), {FLAT})",
    "batch norm": f"nn.Sequential(nn.BatchNorm2d(channels), {FLAT})",
    "lazy": f"nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), {FLAT})",
    "parameter-free": f"nn.Sequential(nn.Identity(), nn.Hardtanh(), nn.AvgPool2d(2), {FLAT})",
    "one layer": "nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))",
    "convolution last": "nn.Sequential(nn.Conv2d(channels, classes, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())",
    "group norm": f"nn.Sequential(nn.Conv2d(channels, 8, 3), nn.GroupNorm(2, 8), {FLAT})",
    "frozen part": f"nn.Sequential(nn.Conv2d(channels, 4, 3).requires_grad_(False), {FLAT})",
    "weight norm": f"nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(channels, 4, 3)), {FLAT})",
    "attention": (
        "nn.Sequential(nn.Flatten(2), nn.Linear(height * width, 16),"
        " nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Flatten(), nn.Linear(channels * 16, classes))"
    ),
}


@pytest.mark.parametrize("form", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("network", ODD.values(), ids=ODD)
def test_odd_networks_of_ones_own_learn_and_come_back(network, form, own):
    own(f"""
        def net(channels, height, width, classes):
            return {network}
    """)
    logits, again = learn_and_come_back("own/nets.py:net", form)
    assert logits.shape == (3, 5)
    assert torch.equal(logits, again)
    assert len(models.last_layers("own/nets.py:net", form)) == 1


def test_options_and_modules_beside_it_reach_an_own_network(own):
    own("width = 7", "beside.py")
    own("""
        from beside import width
        def net(channels, height, _, classes, depth=1):
            return nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, width * depth), nn.Linear(width * depth, classes))
    """)
    assert build("own/nets.py:net", depth=3)[1][1].out_features == 21


NOT_MENDED = "mend it, or set another model.name"
LOADED = r"^own/nets\.py cannot be loaded: "
GIVES = "where a torch.nn.Module is wanted"
WRONG = {
    "no file": ("own/other.py:net", "", r"but there is no own/other\.py: correct the path$"),
    "elsewhere": ("net.py:net", "", r"move net\.py into own/, which DVC tracks$"),
    "outside": ("own/../net.py:net", "", r"move own/\.\./net\.py into own/, which DVC tracks$"),
    "no function": ("own/nets.py:nat", "def net(*form): pass", r"has no function 'nat': did you mean net\?$"),
    "none at all": ("own/nets.py:net", "", r"has no function 'net': it has none$"),
    "no name": ("own/nets.py", "def net(*form): pass", r"has no function '': it has net$"),
    "raises": (
        "own/nets.py:net",
        "\n\nraise ValueError('odd')",
        LOADED + r"ValueError: odd \(own/nets\.py, line 4\)$",
    ),
    "no Python": ("own/nets.py:net", "\ndef net(:", LOADED + r"SyntaxError: .* \(nets\.py, line 3\)$"),
    "no such module": ("own/nets.py:net", "import nothing_of_this_name", r"ModuleNotFoundError: .* line 2\)$"),
    "ends": (
        "own/nets.py:net",
        "raise SystemExit(3)",
        LOADED + r"SystemExit: 3 \(own/nets\.py, line 2\)$",
    ),
    "no module": (
        "own/nets.py:net",
        "def net(*form): return 3",
        f"fails on images of 1 x 64 x 64 .TypeError: it gives a int, {GIVES}.: {NOT_MENDED}$",
    ),
    "a class": (
        "own/nets.py:net",
        "def net(*form): return nn.ReLU",
        f"it gives a type, {GIVES}",
    ),
    "raises when made": (
        "own/nets.py:net",
        "\ndef net(*form):\n    raise KeyError('odd')",
        r"^the network own/nets\.py:net fails on images of 1 x 64 x 64 \(KeyError: 'odd' \(own/nets\.py, line 4\)\): ",
    ),
    "too few arguments": (
        "own/nets.py:net",
        "def net(channels): pass",
        r"TypeError: net\(\) takes 1 pos",
    ),
    "another size": (
        "own/nets.py:net",
        "def net(*form): return nn.Sequential(nn.Flatten(), nn.Linear(784, 5))",
        r"fails on images of 1 x 64 x 64 \(RuntimeError: .*mat1 and mat2 shapes cannot be multiplied",
    ),
    "another shape": (
        "own/nets.py:net",
        "def net(*form): return nn.Sequential(nn.Flatten(), nn.LazyLinear(7))",
        r"gives \(2, 7\) float32 in evaluation, where \(2, 5\) floats are wanted of 2 images: " + NOT_MENDED,
    ),
}


@pytest.mark.parametrize(("name", "code", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_an_own_network_is_told_in_a_line(name, code, told, own):
    own(code)
    with pytest.raises(FoldwiseError, match=told) as caught:
        build(name)
    assert "\n" not in str(caught.value)


def test_an_option_that_an_own_network_does_not_take_is_told(own):
    own("def net(channels, height, width, classes, depth=1): pass")
    with pytest.raises(FoldwiseError) as caught:
        build("own/nets.py:net", depht=3)
    told = "model.options has depht, which own/nets.py:net does not take: did you mean depth?"
    assert str(caught.value) == f"params.yaml: {told}"


def test_of_several_heads_an_own_network_is_to_give_the_one_that_counts(own):
    own("""
        class Net(nn.Module):
            def __init__(self, pixels, classes):
                super().__init__()
                self.heads = nn.ModuleList([nn.Linear(pixels, classes), nn.Linear(pixels, 3)])
            def forward(self, images):
                return tuple(head(images.flatten(1)) for head in self.heads)
        def net(channels, height, width, classes):
            return Net(channels * height * width, classes)
    """)
    with pytest.raises(FoldwiseError, match=r"gives a tuple in evaluation, where \(2, 5\) floats are wanted"):
        build("own/nets.py:net")


def test_an_own_file_may_print(own, capfd):
    own("""
        print("made of paper")
        def net(channels, height, width, classes):
            print("made")
            return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))
    """)
    assert build("own/nets.py:net")(pixels(GREY)).shape == (2, 5)
    assert capfd.readouterr().out.startswith("made of paper\nmade\n")


BARE = """
    import torch
    class Net(nn.Module):
        def __init__(self, pixels, classes):
            super().__init__()
            self.scale, self.last = nn.Parameter(torch.ones(1)), nn.Linear(pixels, 1)
        def forward(self, images):
            return (self.last(self.scale * images.flatten(1))).expand(-1, 5)
    def net(channels, height, width, classes):
        return Net(channels * height * width, classes)
"""


def test_where_the_first_or_the_last_layer_cannot_be_known_freezing_is_refused(own):
    own(BARE)
    with pytest.raises(FoldwiseError, match=r"which layer of own/nets.py:net is its last cannot be known"):
        models.last_layers("own/nets.py:net", GREY)
    with pytest.raises(FoldwiseError, match=r"first cannot be known: set train.freeze_first_layer_after to 0$"):
        optimization.first_layer(build("own/nets.py:net"), pixels(GREY))


def test_a_transformers_first_layer_is_what_its_images_pass_first():
    model = build("torchvision:vit_b_32", COLOUR)
    found = optimization.first_layer(model, pixels(COLOUR))
    assert list(map(id, found)) == list(map(id, model[1].conv_proj.parameters()))


def test_a_layer_that_is_called_by_keyword_is_known_as_the_first(own):
    own("""
        class Net(nn.Module):
            def __init__(self, pixels, classes):
                super().__init__()
                self.first, self.last = nn.Linear(pixels, 3), nn.Linear(3, classes)
            def forward(self, images):
                return self.last(self.first(input=images.flatten(1)))
        def net(channels, height, width, classes):
            return Net(channels * height * width, classes)
    """)
    model = build("own/nets.py:net")
    assert [weight is model[1].first.weight for weight in optimization.first_layer(model, pixels(GREY))] == [
        True,
        False,
    ]


def test_a_network_for_one_number_of_classes_has_no_last_layer_that_can_be_found(own):
    own("""
        def net(channels, height, width, classes):
            if classes != 5:
                raise ValueError("five are wanted")
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    """)
    build("own/nets.py:net")
    with pytest.raises(FoldwiseError, match=r"cannot be made for 6 classes \(ValueError: five are wanted \(own/nets"):
        models.last_layers("own/nets.py:net", GREY)


def test_a_class_of_ones_own_is_a_function_too(own):
    own("""
        class Net(nn.Module):
            def __init__(self, channels, height, width, classes, depth=1):
                super().__init__()
                self.last = nn.Linear(channels * height * width, classes)
            def forward(self, images):
                return self.last(images.flatten(1))
    """)
    assert build("own/nets.py:Net", depth=2)(pixels(GREY)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "options"),
    [("torchvision:vit_b_32", {"image_size": 32}), ("timm:vit_tiny_patch16_224", {"img_size": [32, 48]})],
)
def test_images_are_brought_to_the_size_that_an_option_names(name, options):
    assert build(name, COLOUR, **options)(pixels(COLOUR)).shape == (2, 5)


def test_an_odd_size_of_timms_is_told():
    with pytest.raises(FoldwiseError, match=r"^the network timm:test_vit fails on images of 1 x 64 x 64 \("):
        build("timm:test_vit", img_size=[32, 32, 3])
