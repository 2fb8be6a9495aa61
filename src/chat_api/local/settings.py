"""The variables of the local stack. docs/reference.md has a table of them; a test compares."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from chat_api.local.errors import LocalError

Port = Annotated[int, Field(ge=1, le=65535)]


class LocalSettings(BaseSettings):
    """Field `local_data_dir` is the variable `LOCAL_DATA_DIR`, and so on."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    local_data_dir: Annotated[
        Path,
        Field(description="folder of the stack's database, keys, logs and models"),
    ] = Path(".samosachaat")
    local_model_dir: Annotated[
        Path | None,
        Field(
            description="more models: every `*.gguf` in this folder; default: `models` in the above"
        ),
    ] = None
    local_model: Annotated[
        str, Field(description="the model at the start: its file's name without `.gguf`")
    ] = "SmolLM2-135M-Instruct.Q4_1"
    local_api_port: Annotated[Port, Field(description="port of the chat API")] = 8002
    local_page_port: Annotated[Port, Field(description="port of the chat page")] = 3000
    local_auth_port: Annotated[Port, Field(description="port of the auth service")] = 8001
    local_inference_port: Annotated[Port, Field(description="port of the inference service")] = 8000
    local_slots: Annotated[
        int, Field(ge=1, le=64, description="answers that the model writes at the same time")
    ] = 4
    local_context_tokens: Annotated[
        int,
        Field(
            ge=512,
            le=1_000_000,
            description="size of a context: tokens of an answer and its prompt",
        ),
    ] = 4096

    @property
    def data_dir(self) -> Path:
        return self.local_data_dir.expanduser().absolute()

    @property
    def model_dir(self) -> Path:
        chosen = self.local_model_dir
        return self.data_dir / "models" if chosen is None else chosen.expanduser().absolute()


def load_local_settings() -> LocalSettings:
    """Read the settings from the environment. Raise LocalError with a line per wrong variable."""
    try:
        return LocalSettings()
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise LocalError("\n".join(lines)) from None
