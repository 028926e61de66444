"""Files: the one seam for writes, dtypes, the formats of weights and the hub."""
