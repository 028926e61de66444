"""The methods of merging; importing this fills `merge.method.METHODS`."""
