"""One small module for each thing that the product takes by one line: what a person would write."""
