"""Where this toolchain keeps what it can make or fetch again."""

import os
from pathlib import Path


def own_cache(kind: str) -> Path:
    """`entrenar/<kind>` below the XDG cache folder, which may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "entrenar" / kind
