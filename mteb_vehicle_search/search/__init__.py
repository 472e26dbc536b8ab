"""Exact search: vectors, scores as they are defined, the rank of every relevant image."""
