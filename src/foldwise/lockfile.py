"""What a `dvc.lock` says of a run: the knobs and files that made its results, and where those lie."""

import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from foldwise.errors import FoldwiseError


class File(BaseModel):
    """A file or folder and its digest."""

    model_config = ConfigDict(frozen=True)

    path: str
    md5: str


class Stage(BaseModel):
    """A stage as it was run: `params` has, for each file of knobs, their values by name."""

    model_config = ConfigDict(frozen=True)

    cmd: str
    deps: tuple[File, ...] = ()
    outs: tuple[File, ...] = ()
    params: dict[str, dict[str, Any]] = {}

    @property
    def options(self) -> dict[str, str]:
        """The word after each `--option` on the command line."""
        return {word[2:]: following for word, following in pairwise(shlex.split(self.cmd)) if word.startswith("--")}


class Lock(BaseModel):
    """The stages of a `dvc.lock`.

    Notes
    -----
    - A knob goes by its full name, such as `train.lr`; its value is that which the results were made with.
    - A source is a file that no stage makes: code, or the pins of libraries.
    """

    model_config = ConfigDict(frozen=True)

    stages: dict[str, Stage]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Check the content of a `dvc.lock`; FoldwiseError if a kill has left it torn."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise FoldwiseError("dvc.lock is damaged: `git checkout dvc.lock`, then `dvc repro`") from error

    @property
    def producers(self) -> dict[str, tuple[str, str]]:
        """Stage and digest of each output, by path."""
        return {out.path: (name, out.md5) for name, stage in self.stages.items() for out in stage.outs}

    @property
    def parameters(self) -> dict[str, Any]:
        """All knobs that stages depend on."""
        recorded = [knobs for stage in self.stages.values() for knobs in stage.params.values()]
        return {name: value for knobs in recorded for name, value in _flat(knobs)}

    def lineage(self, stage: str) -> list[str]:
        """Names of `stage` and of all that its outputs were made from, nearest first.

        Raises
        ------
        FoldwiseError
            If a stage has not been run again after one before it was, as after an interruption.
        """
        producers, lineage = self.producers, [stage]
        for name in lineage:
            for dep in self.stages[name].deps:
                producer, digest = producers.get(dep.path, (name, dep.md5))
                if digest != dep.md5:
                    raise FoldwiseError(
                        f"half a run: {dep.path} is newer than what `{name}` made of it: run `dvc repro`"
                    )
                if producer not in lineage:
                    lineage.append(producer)
        return lineage

    def sources(self, stages: list[str]) -> dict[str, str]:
        """Digest of each source of `stages`, by path."""
        made = self.producers
        return {dep.path: dep.md5 for name in stages for dep in self.stages[name].deps if dep.path not in made}

    def changed(self, stages: list[str], knobs: Mapping[str, Any], digests: Mapping[str, str | None]) -> list[str]:
        """Find the knobs and sources of `stages` that are no longer what the results were made with.

        Parameters
        ----------
        stages : list of str
        knobs : mapping of str to dict
            Content of each file that `params` of those stages name.
        digests : mapping of str to str or None
            Of each of their sources; None for one that is gone.
        """
        changed = {path for path, digest in self.sources(stages).items() if digests[path] != digest}
        for name in stages:
            for path, recorded in self.stages[name].params.items():
                then = dict(_flat(recorded))
                now = dict(_flat({knob: _get(knobs[path], knob) for knob in recorded}))
                changed |= {knob for knob in then | now if then.get(knob) != now.get(knob)}
        return sorted(changed)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _get(tree: Any, knob: str) -> Any:
    for part in knob.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
