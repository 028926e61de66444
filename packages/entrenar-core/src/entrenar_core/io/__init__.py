"""Files: the one seam for writes, dtypes, safetensors and the hub."""
