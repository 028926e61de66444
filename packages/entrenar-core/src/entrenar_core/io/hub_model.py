"""A model's repository on the hub at one commit: what files it has, and their bytes."""

import re
from pathlib import Path

from entrenar_common.errors import FormatError, HubError
from entrenar_core.io.hub_errors import Asked, hub_errors
from entrenar_core.io.hub_file import HubFile
from entrenar_core.io.strict_json import MAX_JSON_BYTES

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def is_hub_name(name: str) -> bool:
    """Whether a model on the hub may be called so: org/model, or model alone."""
    return bool(_NAME.fullmatch(name)) and ".." not in name and "--" not in name


class HubModel:
    """The files of the hub's model `name` at the commit that `revision` is when this is made.

    `sizes` has the bytes of each file by its path in the repository, None where the hub does not
    say; `commit` is the full hash. Files are always of that commit, whatever is pushed meanwhile.

    Raises NotFoundError (no such model or revision) and HubError.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        from huggingface_hub import HfApi  # a slow import

        assert is_hub_name(name)
        self.name, self.revision = name, revision
        self._files: list[HubFile] = []
        with hub_errors(Asked(name, revision)):
            try:
                found = HfApi().model_info(name, revision=revision, files_metadata=True)
                self.sizes = {file.rfilename: file.size for file in found.siblings or ()}
            except (KeyError, TypeError, AttributeError) as error:  # JSON, and not a model's
                raise HubError(
                    f"{name}: the answer is not that of a hub: it does not describe a model",
                    hint="check HF_ENDPOINT, and whether a proxy or login page answers instead",
                ) from error
        self.commit: str | None = found.sha

    @property
    def fetched(self) -> int:
        """The bytes of files that came over the network."""
        return sum(file.fetched for file in self._files)

    def open(self, file: str) -> HubFile:
        """A file of the repository, of which nothing but its size is fetched yet."""
        found = HubFile(self.name, file, revision=self.commit or self.revision)
        self._files.append(found)
        return found

    def read(self, file: str, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
        """All bytes of a small file; a longer one is a FormatError, before they are fetched."""
        found = self.open(file)
        if found.size > max_bytes:
            raise FormatError(
                f"{found.path}: larger than the limit of {max_bytes} bytes for such a file",
                hint="check that this is the file you meant",
            )
        return found.take(0, found.size)

    def path(self, file: str) -> Path:
        """What a file is called in messages."""
        return Path(Asked(self.name, file=file).shown)
