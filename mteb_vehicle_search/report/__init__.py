"""The page that shows the failures: a static site from run records and their evaluation set."""
