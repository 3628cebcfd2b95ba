"""What `params.yaml` may say, as validated, immutable types; what each parameter means stands in that file."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from foldwise.base.errors import FoldwiseError, did_you_mean


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("input should be a number")
    return value


# YAML's reader takes `3e-05`, which DVC writes for `-S train.lr=3e-5`, for text: pydantic turns it back into a number.
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(gt=0, le=1)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Side = Annotated[int, Field(strict=True, ge=4, le=4096)]
# scikit-learn's and NumPy's seeds are 32 bits wide.
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Flag = Annotated[bool, Field(strict=True)]


AUGMENTATIONS = ("shift", "affine", "flip", "crop", "color", "trivial")


def _as_list(value: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        raise ValueError("a name or a list of names is wanted")
    return [] if value == "none" else [value] if isinstance(value, str) else value


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name == "none":
            raise ValueError("none stands alone: leave it out of the list")
        if name not in AUGMENTATIONS and not is_own(name):
            others = f"use none, {', '.join(AUGMENTATIONS)}, own/FILE.py:FUNCTION, or a list of them"
            raise ValueError(f"{name} is not known: {did_you_mean(name, AUGMENTATIONS, others)}")
    return names


Augmentations = Annotated[tuple[str, ...], BeforeValidator(_as_list), AfterValidator(_known)]

# What parameters were called in earlier versions.
RENAMED = {
    "train.hardest": "train.selective_backprop",
    "train.freeze_after": "train.freeze_first_layer_after",
    "train.unaugmented_epochs": "train.clean_epochs",
}


def is_own(name: str) -> bool:
    """Whether a parameter names a function of the user's own, as FILE.py:FUNCTION."""
    return name.partition(":")[0].endswith(".py")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """Which images."""

    name: str
    subset: Count | None
    mirror: str | None
    folder: Annotated[str, Field(min_length=1)]
    image_size: Side | tuple[Side, Side] | None
    resize: Literal["pad", "crop", "stretch"]
    channels: Literal[1, 3] | None
    test_share: Fraction
    broken: Literal["error", "skip"]


class CV(_Section):
    """How they are dealt to folds."""

    k: Annotated[int, Field(strict=True, ge=2)]
    strategy: Literal["stratified", "kfold", "given"]
    repeats: Annotated[Count, Field(le=1000)]
    seed: Seed
    groups: Literal["together", "ignore"]
    copies: Literal["together", "ignore"]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.strategy == "given" and self.repeats > 1:
            raise ValueError("cv.strategy given has one way of dealing: set cv.repeats to 1")
        return self


class Normalize(_Section):
    """Which images the normalisation constants are measured on."""

    scope: Literal["fold", "dataset", "weights"]


class Model(_Section):
    """Which network, and what it starts from."""

    name: str
    options: dict[str, Any] | None
    pretrained: Flag
    freeze: Flag
    views: Annotated[Count, Field(le=1000)]
    weights_file: str | None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.freeze and not (self.pretrained or self.weights_file):
            raise ValueError("model.freeze trains the last layer alone: set model.pretrained or model.weights_file too")
        if self.pretrained and self.weights_file:
            raise ValueError("model.pretrained and model.weights_file exclude each other: set one of them")
        return self


class Train(_Section):
    """How a fold's network is trained."""

    seed: Seed
    epochs: Count
    batch_size: Count | None
    optimizer: Literal["sgd", "adam", "adamw", "muon"]
    lr: Positive
    momentum: Fraction
    weight_decay: NotNegative
    schedule: Literal["constant", "one_cycle", "cosine"]
    warmup: Annotated[int, Field(strict=True, ge=0)]
    gradient_clip: NotNegative
    class_weights: Literal["none", "balanced"]
    label_smoothing: Fraction
    augment: Augmentations
    clean_epochs: Annotated[int, Field(strict=True, ge=0)]
    precision: Literal["float32", "bfloat16"]
    importance_sampling: Share
    selective_backprop: Share
    freeze_first_layer_after: Annotated[int, Field(strict=True, ge=0)] | None
    patience: Annotated[int, Field(strict=True, ge=0)]
    inner_fraction: Fraction

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.importance_sampling < 1 and self.selective_backprop < 1:
            raise ValueError("train.importance_sampling and train.selective_backprop exclude each other: set one to 1")
        if self.warmup and self.schedule == "one_cycle":
            raise ValueError("train.warmup goes with constant and cosine, as one_cycle has one: set it to 0")
        if self.warmup >= self.epochs:
            raise ValueError(f"train.warmup is {self.warmup} of {self.epochs} epochs: set it below train.epochs")
        if self.patience and not self.inner_fraction:
            raise ValueError("train.patience stops on an inner split: set train.inner_fraction above 0, say to 0.1")
        return self


class Evaluate(_Section):
    """What is done to the predictions, and which score counts."""

    primary: Literal["accuracy", "balanced_accuracy", "f1_macro", "log_loss", "roc_auc_macro"]
    augment: Literal["none", "shift"]
    temperature: Flag


class Final(_Section):
    """Which model is there to take away."""

    model: Literal["none", "refit", "ensemble"]


class Compute(_Section):
    """Where and how fast it is done."""

    device: Literal["cpu", "cuda", "mps"]
    threads_per_fold: Annotated[Count, Field(le=1024)]
    portable: Flag
    backend: Literal["loky", "ray"]
    n_jobs: Annotated[int, Field(strict=True, ge=-1)]
    gpus_per_fold: NotNegative
    reuse_folds: Flag

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.n_jobs == 0:
            raise ValueError("compute.n_jobs is 0: set it to 1 or more, or to -1 for one worker per core")
        return self

    @property
    def rounding(self) -> tuple[str, int, bool]:
        """What of it changes results, in their last digits."""
        return self.device, self.threads_per_fold, self.portable


class Params(_Section):
    """All of `params.yaml`."""

    data: Data
    cv: CV
    normalize: Normalize
    model: Model
    train: Train
    evaluate: Evaluate
    final: Final
    compute: Compute

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.model.views > 1 and any(map(is_own, self.train.augment)):
            raise ValueError("model.views is for augmentations that change each image on its own: set it to 1")
        return self


def load(path: Path) -> Params:
    """Read and check `params.yaml`.

    Raises
    ------
    FoldwiseError
        Names the first parameter that is wrong, what is wrong with it, and the nearest known name of an unknown one.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FoldwiseError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # on odd text and tags the reader raises errors of many types
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise FoldwiseError(f"{path} is not valid YAML{where}: `git diff {path}` shows what was changed") from error
    if not isinstance(content, dict):
        raise FoldwiseError(f"{path} holds no sections: `git checkout {path}` brings it back")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        # A misspelt parameter is missing too: what is unknown says more.
        first = min(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
        raise FoldwiseError(f"{path}: {_explain(first)}") from error


def _explain(error: Any) -> str:
    """Put one of pydantic's errors in a line of ours."""
    parameter = ".".join(map(str, error["loc"]))
    value, kind = error["input"], error["type"]
    if kind == "extra_forbidden":
        section: Any = Params
        for name in error["loc"][:-1]:
            section = section.model_fields[name].annotation
        *prefix, name = RENAMED.get(parameter, parameter).rpartition(".")
        hint = did_you_mean(name, section.model_fields, "remove it", "".join(prefix))
        return f"unknown parameter {parameter}; {hint}"
    if kind == "missing":
        return f"{parameter} is missing: add it"
    if kind == "value_error" and len(error["loc"]) <= 1:
        return str(error["ctx"]["error"])
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if value is None:
        return f"{parameter} has no value: {message}"
    if isinstance(value, (dict, list)):
        return f"{parameter} has the wrong form: {message}"
    return f"{parameter} is {value!r}: {message}"
