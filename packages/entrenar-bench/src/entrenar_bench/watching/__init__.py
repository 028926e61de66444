"""Studies shown while they are driven: as lines, as a bar, or on the whole terminal."""
