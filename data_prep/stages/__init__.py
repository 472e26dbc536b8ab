"""The stages of a build: classify, select, reduce, find duplicates, export."""
