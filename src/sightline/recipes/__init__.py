"""Experiments: one file each, a paper on a data set, with the command, the expected score and the time."""
