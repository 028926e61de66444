"""Exporters: callbacks that take the figures of a training to where they are looked at."""
