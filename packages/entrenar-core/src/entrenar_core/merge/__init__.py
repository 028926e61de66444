"""Models that become one: the methods, mergekit's configs, and what writes the result."""
