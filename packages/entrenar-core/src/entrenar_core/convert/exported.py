"""What was written: the record that every way to another file format ends with."""

from dataclasses import dataclass
from pathlib import Path

from entrenar_core.convert.verify import FormatLoss


@dataclass(frozen=True)
class Exported:
    """What was written: `losses` say what each format did to the tensors stored in it, `notes` what
    the reader of the file should know."""

    path: Path
    files: tuple[Path, ...]
    nbytes: int
    quantization: str
    losses: tuple[FormatLoss, ...]
    notes: tuple[str, ...]
