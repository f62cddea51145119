"""Sightline: one library and one command for reading pictures and clips."""

__version__ = "0.1.0"
