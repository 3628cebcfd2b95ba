"""What a `dvc.lock` says of a run: the parameters and files that made its results, and where those lie."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from foldwise.base.errors import FoldwiseError

# The parameter that names a dep of the user's.
OWN_IMAGES = "data.folder"


def _one_line(cmd: Any) -> str:
    """A list of commands as one, and no matter how it was wrapped."""
    return " && ".join(" ".join(str(line).split()) for line in (cmd if isinstance(cmd, list) else [cmd]))


class File(BaseModel):
    """A file or folder and its digest."""

    model_config = ConfigDict(frozen=True)

    path: str
    # DVC keeps another mark of what a stage of the user's takes from an address.
    md5: str = Field(validation_alias=AliasChoices("md5", "etag", "checksum"))


class Stage(BaseModel):
    """A stage as it was run: `params` has, for each file of parameters, their values by name."""

    model_config = ConfigDict(frozen=True)

    cmd: Annotated[str, BeforeValidator(_one_line)]
    deps: tuple[File, ...] = ()
    outs: tuple[File, ...] = ()
    params: dict[str, dict[str, Any]] = {}


class Output(NamedTuple):
    """What a stage makes."""

    stage: str
    path: str
    md5: str


class Lock(BaseModel):
    """The stages of a `dvc.lock`, and the commands that `dvc.yaml` has for them now.

    Notes
    -----
    - A stage is found by the last part of the path of what it makes, whatever its name.
    - A parameter goes by its full name, such as `train.lr`; its value is that which the results were made with.
    - A source is a file that no stage makes: code, or the pins of libraries; the user's own images are none.
    """

    model_config = ConfigDict(frozen=True)

    stages: dict[str, Stage]
    commands: dict[str, str] = {}

    @classmethod
    def of(cls, content: Mapping[str, Any], pipeline: Mapping[str, Any]) -> Self:
        """Check the content of a `dvc.lock`, and leave out what `pipeline`, that of `dvc.yaml`, has no stage for.

        DVC keeps the entries of stages that were renamed or removed. FoldwiseError if a kill has left it torn.
        """
        try:
            lock = cls.model_validate(content)
        except ValidationError as error:
            raise FoldwiseError("dvc.lock is damaged: `git checkout dvc.lock`, then `dvc repro`") from error
        now = pipeline.get("stages")
        if not isinstance(now, dict) or not all(isinstance(stage, dict) for stage in now.values()):
            raise FoldwiseError("dvc.yaml has no stages: `dvc stage list` says what is wrong with it")
        stages = {name: stage for name, stage in lock.stages.items() if name.partition("@")[0] in now}
        # What DVC fills in (`${...}`, foreach, matrix) is not known here.
        plain = {name: _one_line(stage["cmd"]) for name, stage in now.items() if "cmd" in stage and name in stages}
        commands = {name: command for name, command in plain.items() if "${" not in command}
        return cls(stages=stages, commands=commands)

    def outputs(self, name: str | None = None) -> list[Output]:
        """What all stages make, or that of it whose path ends with `name`."""
        return [
            Output(stage, out.path, out.md5)
            for stage, recorded in self.stages.items()
            for out in recorded.outs
            if name in (None, PurePosixPath(out.path).name)
        ]

    def output(self, name: str) -> Output:
        """Find the output whose path ends with `name`; FoldwiseError unless there is one."""
        outputs = self.outputs(name)
        if not outputs:
            raise FoldwiseError(f"dvc.lock has no stage that makes {name}: run `dvc repro` there")
        if len(outputs) > 1:
            makers = ", ".join(f"{output.path} of `{output.stage}`" for output in outputs)
            raise FoldwiseError(
                f"several stages in dvc.lock make {name} ({makers}): rename the others in dvc.yaml, and run `dvc repro`"
            )
        return outputs[0]

    def parameters(self, stages: Iterable[str] = ()) -> dict[str, Any]:
        """All parameters that stages depend on; where others have not run again since, those of `stages` count."""
        ordered = [*self.stages.values(), *(self.stages[name] for name in stages)]
        recorded = [values for stage in ordered for values in stage.params.values()]
        return {name: value for values in recorded for name, value in _flat(values)}

    def lineage(self, *stages: str) -> list[str]:
        """Names of `stages` and of all that their outputs were made from, nearest first.

        Raises
        ------
        FoldwiseError
            If a stage has not been run again after one before it was, as after an interruption.
        """
        producers = {output.path: output for output in self.outputs()}
        lineage = list(dict.fromkeys(stages))
        for name in lineage:
            for dep in self.stages[name].deps:
                producer, _, digest = producers.get(dep.path, (name, dep.path, dep.md5))
                if digest != dep.md5:
                    raise FoldwiseError(
                        f"half a run: {dep.path} is newer than what `{name}` made of it: run `dvc repro`"
                    )
                if producer not in lineage:
                    lineage.append(producer)
        return lineage

    def sources(self, stages: Iterable[str]) -> dict[str, str]:
        """Digest of each source of `stages`, by path."""
        others = {output.path for output in self.outputs()} | {self.parameters().get(OWN_IMAGES)}
        return {dep.path: dep.md5 for name in stages for dep in self.stages[name].deps if dep.path not in others}

    def changed(
        self, stages: Sequence[str], yaml: Callable[[str], Mapping[str, Any]], digest: Callable[[str], str | None]
    ) -> list[str]:
        """Find the parameters, sources and commands of `stages` that are no longer what the results were made with.

        Of a folder of data or an address among the sources only DVC can tell, so none is named.

        Parameters
        ----------
        stages : sequence of str
        yaml : callable
            Gives the content of a file that `params` of those stages name.
        digest : callable
            Gives the digest of one of their sources, a file or a folder of code; None if it is gone.
        """
        changed = {
            path
            for path, recorded in self.sources(stages).items()
            if (path.startswith("src/") if recorded.endswith(".dir") else "://" not in path)
            and digest(path) != recorded
        }
        for name in stages:
            for path, recorded in self.stages[name].params.items():
                content, then = yaml(path), dict(_flat(recorded))
                now = dict(_flat({name: value_of(name, content) for name in recorded}))
                changed |= {name for name in then | now if then.get(name) != now.get(name)}
            if self.commands.get(name, command := self.stages[name].cmd) != command:
                changed.add(f"the command of `{name}`")
        return sorted(changed)


def digest_of(content: bytes | Mapping[str, bytes]) -> str:
    """Digest of a file, or of a folder's files by their paths within, as DVC writes it."""
    if isinstance(content, bytes):
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    listed = [{"md5": digest_of(content[path]), "relpath": path} for path in sorted(content)]
    return digest_of(json.dumps(listed, sort_keys=True).encode()) + ".dir"


def describe(changed: Sequence[str]) -> str:
    """Put what `Lock.changed` has found in a line, the first three by name."""
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{', '.join(changed[:3])}{more} changed after its results were made: `dvc repro` would make others"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def value_of(parameter: str, tree: Any) -> Any:
    """Value of a parameter, such as `train.lr`, in the content of a file; None if it has none."""
    for part in parameter.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
