import re
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foldwise.base import params
from foldwise.base.errors import FoldwiseError

ORIGINAL = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "params.yaml"


def changed(parameter, value):
    """Give the text of params.yaml with another value, as YAML, of one parameter."""
    section, _, name = parameter.partition(".")
    text, count = re.subn(
        rf"^({section}:\n(?:  .*\n)*?  {name}:)[^#\n]*",
        lambda found: f"{found[1]} {value} ",
        ORIGINAL,
        flags=re.MULTILINE,
    )
    assert count == 1
    return text


def refused(path, text):
    """Give the message with which a text is refused, less the path before it."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FoldwiseError) as caught:
        params.load(path)
    start, _, message = str(caught.value).partition(str(path))
    assert start == ""
    return message


def test_the_repositorys_own_parameters_are_valid(path):
    path.write_text(ORIGINAL, encoding="utf-8")
    assert isinstance(params.load(path), params.Params)


def test_every_section_and_parameter_of_the_file_is_read(path):
    path.write_text(ORIGINAL, encoding="utf-8")
    read, written = params.load(path).model_dump(), yaml.safe_load(ORIGINAL)
    assert read["train"].pop("augment") == (written["train"].pop("augment"),)
    assert read == written


@pytest.mark.parametrize(
    ("value", "augmentations"),
    [
        ("none", ()),
        ("[]", ()),
        ("flip", ("flip",)),
        ("[crop, own/mine.py:noise]", ("crop", "own/mine.py:noise")),
        ("own/mine.py:noise", ("own/mine.py:noise",)),
    ],
)
def test_one_augmentation_or_some_in_a_row_are_read(value, augmentations, path):
    path.write_text(changed("train.augment", value), encoding="utf-8")
    assert params.load(path).train.augment == augmentations


def test_validated_parameters_cannot_be_changed(parameters):
    with pytest.raises(ValidationError, match="frozen"):
        parameters().train.epochs = 5


UNDERSTOOD = [
    ("train.lr", "3e-05", 3e-5),  # text to YAML's reader, and what DVC writes for 3e-5
    ("train.lr", "1", 1.0),
    ("train.label_smoothing", "0", 0.0),
    ("train.weight_decay", "0", 0.0),
    ("data.subset", "", None),
    ("data.subset", "null", None),
    ("data.mirror", "~/mnist", "~/mnist"),
    ("cv.seed", "4294967295", 2**32 - 1),
    ("compute.n_jobs", "-1", -1),
    ("compute.portable", "true", True),
    ("model.weights_file", "my weights.pth", "my weights.pth"),
]


@pytest.mark.parametrize(("parameter", "value", "meaning"), UNDERSTOOD)
def test_a_value_is_understood(parameter, value, meaning, path):
    path.write_text(changed(parameter, value), encoding="utf-8")
    section, _, name = parameter.partition(".")
    found = getattr(getattr(params.load(path), section), name)
    assert (found, type(found)) == (meaning, type(meaning))


REFUSED_VALUES = [
    ("cv.k", "1", "cv.k is 1: input should be greater than or equal to 2"),
    ("cv.k", "five", "cv.k is 'five': input should be a valid integer"),
    ("cv.k", "5.0", "cv.k is 5.0: input should be a valid integer"),
    ("cv.k", "true", "cv.k is True: input should be a valid integer"),
    ("cv.k", "", "cv.k has no value: input should be a valid integer"),
    ("cv.k", "[5, 10]", "cv.k has the wrong form: input should be a valid integer"),
    ("cv.k", "{a: 1}", "cv.k has the wrong form: input should be a valid integer"),
    ("cv.strategy", "Stratified", "cv.strategy is 'Stratified': input should be 'stratified', 'kfold' or 'given'"),
    ("cv.repeats", "0", "cv.repeats is 0: input should be greater than or equal to 1"),
    ("cv.repeats", "100000", "cv.repeats is 100000: input should be less than or equal to 1000"),
    ("cv.seed", "-1", "cv.seed is -1: input should be greater than or equal to 0"),
    ("cv.seed", "4294967296", "cv.seed is 4294967296: input should be less than 4294967296"),
    ("data.name", "", "data.name has no value: input should be a valid string"),
    ("data.name", "5", "data.name is 5: input should be a valid string"),
    ("data.name", "2020-01-01", "data.name is datetime.date(2020, 1, 1): input should be a valid string"),
    ("data.subset", "0", "data.subset is 0: input should be greater than or equal to 1"),
    ("data.subset", "6e3", "data.subset is '6e3': input should be a valid integer"),
    ("data.mirror", "7", "data.mirror is 7: input should be a valid string"),
    ("normalize.scope", "none", "normalize.scope is 'none': input should be 'fold', 'dataset' or 'weights'"),
    ("model.pretrained", "1", "model.pretrained is 1: input should be a valid boolean"),
    ("model.freeze", "'yes'", "model.freeze is 'yes': input should be a valid boolean"),
    ("train.seed", "1.5", "train.seed is 1.5: input should be a valid integer"),
    ("train.epochs", "0", "train.epochs is 0: input should be greater than or equal to 1"),
    ("train.batch_size", "-8", "train.batch_size is -8: input should be greater than or equal to 1"),
    ("train.optimizer", "Adam", "train.optimizer is 'Adam': input should be 'sgd', 'adam', 'adamw' or 'muon'"),
    ("train.selective_backprop", "0", "train.selective_backprop is 0: input should be greater than 0"),
    ("train.importance_sampling", "1.5", "train.importance_sampling is 1.5: input should be less than or equal to 1"),
    ("train.clean_epochs", "-1", "train.clean_epochs is -1: input should be greater than or equal to 0"),
    (
        "train.freeze_first_layer_after",
        "-1",
        "train.freeze_first_layer_after is -1: input should be greater than or equal to 0",
    ),
    ("train.lr", "0", "train.lr is 0: input should be greater than 0"),
    ("train.lr", "-0.1", "train.lr is -0.1: input should be greater than 0"),
    ("train.lr", ".nan", "train.lr is nan: input should be a finite number"),
    ("train.lr", "nan", "train.lr is 'nan': input should be a finite number"),
    ("train.lr", ".inf", "train.lr is inf: input should be a finite number"),
    ("train.lr", "1e999", "train.lr is '1e999': input should be a finite number"),
    ("train.lr", "true", "train.lr is True: input should be a number"),
    (
        "train.lr",
        "0,01",
        "train.lr is '0,01': input should be a valid number, unable to parse string as a number",
    ),
    ("train.lr", "[0.003, 0.006]", "train.lr has the wrong form: input should be a valid number"),
    ("train.momentum", "1", "train.momentum is 1: input should be less than 1"),
    ("train.weight_decay", "-1e-4", "train.weight_decay is '-1e-4': input should be greater than or equal to 0"),
    ("train.schedule", "onecycle", "train.schedule is 'onecycle': input should be 'constant', 'one_cycle' or 'cosine'"),
    ("train.label_smoothing", "1.0", "train.label_smoothing is 1.0: input should be less than 1"),
    ("train.augment", "flipp", "train.augment is 'flipp': flipp is not known: did you mean flip?"),
    (
        "train.augment",
        "[crop, mixup]",
        "train.augment has the wrong form: mixup is not known: use none, shift, affine, flip, crop, color, trivial, "
        "own/FILE.py:FUNCTION, or a list of them",
    ),
    ("train.augment", "[flip, none]", "train.augment has the wrong form: none stands alone: leave it out of the list"),
    ("train.augment", "3", "train.augment is 3: a name or a list of names is wanted"),
    ("train.augment", "", "train.augment has no value: a name or a list of names is wanted"),
    ("train.warmup", "1", "train.warmup goes with constant and cosine, as one_cycle has one: set it to 0"),
    ("train.gradient_clip", "-1", "train.gradient_clip is -1: input should be greater than or equal to 0"),
    ("train.class_weights", "balance", "train.class_weights is 'balance': input should be 'none' or 'balanced'"),
    ("model.options", "3", "model.options is 3: input should be a valid dictionary"),
    ("train.precision", "float16", "train.precision is 'float16': input should be 'float32' or 'bfloat16'"),
    ("train.patience", "-1", "train.patience is -1: input should be greater than or equal to 0"),
    ("train.inner_fraction", "1", "train.inner_fraction is 1: input should be less than 1"),
    (
        "evaluate.primary",
        "kappa",
        "evaluate.primary is 'kappa': input should be 'accuracy', 'balanced_accuracy', 'f1_macro', 'log_loss' or "
        "'roc_auc_macro'",
    ),
    ("evaluate.temperature", "0.5", "evaluate.temperature is 0.5: input should be a valid boolean"),
    ("compute.device", "gpu", "compute.device is 'gpu': input should be 'cpu', 'cuda' or 'mps'"),
    ("compute.threads_per_fold", "0", "compute.threads_per_fold is 0: input should be greater than or equal to 1"),
    (
        "compute.threads_per_fold",
        "9999999999",
        "compute.threads_per_fold is 9999999999: input should be less than or equal to 1024",
    ),
    ("compute.backend", "loki", "compute.backend is 'loki': input should be 'loky' or 'ray'"),
    ("compute.n_jobs", "-2", "compute.n_jobs is -2: input should be greater than or equal to -1"),
    ("compute.n_jobs", "0", "compute.n_jobs is 0: set it to 1 or more, or to -1 for one worker per core"),
    ("compute.gpus_per_fold", "-1", "compute.gpus_per_fold is -1: input should be greater than or equal to 0"),
    (
        "model.freeze",
        "true",
        "model.freeze trains the last layer alone: set model.pretrained or model.weights_file too",
    ),
]


@pytest.mark.parametrize(("parameter", "value", "message"), REFUSED_VALUES)
def test_a_wrong_value_is_told(parameter, value, message, path):
    assert refused(path, changed(parameter, value)) == f": {message}"


REFUSED_TEXTS = {
    "misspelt parameter": (
        ORIGINAL.replace("batch_size:", "batchsize:"),
        ": unknown parameter train.batchsize; did you mean train.batch_size?",
    ),
    "misspelt section": (ORIGINAL.replace("train:", "trian:"), ": unknown parameter trian; did you mean train?"),
    "old name": (
        ORIGINAL.replace("  patience:", "  hardest: 0.3\n  patience:"),
        ": unknown parameter train.hardest; did you mean train.selective_backprop?",
    ),
    "other old name": (
        ORIGINAL.replace("  patience:", "  freeze_after: 1\n  patience:"),
        ": unknown parameter train.freeze_after; did you mean train.freeze_first_layer_after?",
    ),
    "unlike any parameter": (ORIGINAL.replace("cv:\n", "cv:\n  xyzzy: 1\n"), ": unknown parameter cv.xyzzy; remove it"),
    "missing parameter": (re.sub(r"  epochs:.*\n", "", ORIGINAL), ": train.epochs is missing: add it"),
    "missing section": (ORIGINAL[: ORIGINAL.index("compute:")], ": compute is missing: add it"),
    "parameter without its indent": (
        ORIGINAL.replace("  temperature:", "temperature:"),
        ": unknown parameter temperature; remove it",
    ),
    "section without parameters": (
        re.sub(r"(normalize:\n)(  .*\n)+", r"\1", ORIGINAL),
        ": normalize has no value: input should be a valid dictionary or instance of Normalize",
    ),
    "section that is a list": (
        re.sub(r"normalize:\n(  .*\n)+", "normalize: [1]\n", ORIGINAL),
        ": normalize has the wrong form: input should be a valid dictionary or instance of Normalize",
    ),
    "number for a name": (ORIGINAL + "1: 2\n", ": 1 is 1: keys should be strings"),
    "pretrained and a file": (
        changed("model.pretrained", "true").replace("weights_file:", "weights_file: a.pth"),
        ": model.pretrained and model.weights_file exclude each other: set one of them",
    ),
    "two ways to leave images out": (
        changed("train.selective_backprop", "0.3"),
        ": train.importance_sampling and train.selective_backprop exclude each other: set one to 1",
    ),
    "a warm-up as long as the training": (
        changed("train.warmup", "6").replace("schedule: one_cycle", "schedule: cosine"),
        ": train.warmup is 6 of 6 epochs: set it below train.epochs",
    ),
    "views of what mixes images": (
        changed("train.augment", "own/mine.py:mixup").replace("views: 1", "views: 4"),
        ": model.views is for augmentations that change each image on its own: set it to 1",
    ),
    "patience without a split": (
        re.sub("inner_fraction: [0-9.]+", "inner_fraction: 0", changed("train.patience", "3")),
        ": train.patience stops on an inner split: set train.inner_fraction above 0, say to 0.1",
    ),
    "empty": ("", " holds no sections: `git checkout {}` brings it back"),
    "comments alone": ("# nothing\n", " holds no sections: `git checkout {}` brings it back"),
    "list": ("- data\n- cv\n", " holds no sections: `git checkout {}` brings it back"),
    "text": ("hello", " holds no sections: `git checkout {}` brings it back"),
    "open bracket": ("data: {name: mnist\ncv:\n", " is not valid YAML at line 2: `git diff {}` shows what was changed"),
    "tab": (
        ORIGINAL.replace("  k:", "\tk:"),
        f" is not valid YAML at line {ORIGINAL.partition('  k:')[0].count(chr(10)) + 1}: "
        "`git diff {}` shows what was changed",
    ),
    "conflict": (
        "<<<<<<< HEAD\ncv: 1\n=======\ncv: 2\n>>>>>>> b\n",
        " is not valid YAML at line 2: `git diff {}` shows what was changed",
    ),
    "two documents": ("a: 1\n---\nb: 2\n", " is not valid YAML at line 2: `git diff {}` shows what was changed"),
    "no such date": (changed("data.name", "2020-13-45"), " is not valid YAML: `git diff {}` shows what was changed"),
    "deep": ("[" * 1000, " is not valid YAML: `git diff {}` shows what was changed"),
    "odd integer": (changed("cv.k", "!!int ''"), " is not valid YAML: `git diff {}` shows what was changed"),
    "odd boolean": (changed("cv.k", "!!bool maybe"), " is not valid YAML: `git diff {}` shows what was changed"),
    "odd date": (changed("cv.k", "!!timestamp now"), " is not valid YAML: `git diff {}` shows what was changed"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED_TEXTS.values(), ids=REFUSED_TEXTS)
def test_a_wrong_file_is_told(text, message, path):
    assert refused(path, text) == message.format(path)


def test_a_file_that_is_not_text_is_told(path):
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FoldwiseError, match=r"is not valid YAML: `git diff"):
        params.load(path)


def test_a_missing_file_is_told(path):
    with pytest.raises(FoldwiseError) as caught:
        params.load(path)
    assert str(caught.value) == f"{path} cannot be read: No such file or directory"


def test_a_tag_that_would_run_something_runs_nothing(path, tmp_path):
    tag = f"!!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']"
    assert refused(path, changed("data.name", tag)).startswith(" is not valid YAML at line 3:")
    assert not (tmp_path / "ran").exists()


def test_what_changes_the_last_digits_is_named(parameters):
    assert parameters({"compute.threads_per_fold": 2}).compute.rounding == ("cpu", 2, False)


@pytest.fixture(scope="module")
def scribbled(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "params.yaml"


def load_or_refuse(path, text):
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with suppress(FoldwiseError):
        assert isinstance(params.load(path), params.Params)


@given(start=st.integers(0, len(ORIGINAL)), length=st.integers(0, 40), insert=st.text(max_size=20))
def test_any_change_of_the_text_is_understood_or_refused(scribbled, start, length, insert):
    load_or_refuse(scribbled, ORIGINAL[:start] + insert + ORIGINAL[start + length :])


YAML_PIECES = ["!!int ", "!!float ", "!!bool ", "!!null ", "!!timestamp ", "!!set ", "!!omap ", "!!pairs ", "!!binary "]
YAML_PIECES += [
    "&a ",
    "*a",
    "<<: ",
    "? ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "|\n",
    ">\n",
    "'",
    '"',
    "\\",
    "%YAML ",
    "---\n",
]


@given(pieces=st.lists(st.sampled_from(YAML_PIECES) | st.text(max_size=4), max_size=6))
def test_any_yaml_is_understood_or_refused(scribbled, pieces):
    load_or_refuse(scribbled, changed("train.lr", "".join(pieces)))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary()
NESTED = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner)
)
PARAMETERS = [
    (section, name) for section, parameters in yaml.safe_load(ORIGINAL).items() for name in (None, *parameters)
]


@given(place=st.sampled_from(PARAMETERS), value=NESTED)
def test_any_value_is_understood_or_refused(scribbled, place, value):
    content = yaml.safe_load(ORIGINAL)
    section, name = place
    if name is None:
        content[section] = value
    else:
        content[section][name] = value
    load_or_refuse(scribbled, yaml.safe_dump(content))
