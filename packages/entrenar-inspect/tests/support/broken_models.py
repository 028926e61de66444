"""All ways in which models are broken here."""

import broken_contents
import broken_files
from breakage import BROKEN, Breakage, broken_copy

__all__ = ["BROKEN", "Breakage", "broken_contents", "broken_copy", "broken_files"]
