"""Runs out to other programs and in from them (TREC, parquet), and results as mteb's own repository takes them."""
