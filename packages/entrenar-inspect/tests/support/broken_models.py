"""All ways in which models are broken here."""

import broken_contents  # noqa: F401  fills the registry
import broken_files  # noqa: F401
from breakage import BROKEN, Breakage, broken_copy

__all__ = ["BROKEN", "Breakage", "broken_copy"]
