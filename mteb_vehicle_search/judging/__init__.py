"""Judging: the local page on which people say which images are right."""
