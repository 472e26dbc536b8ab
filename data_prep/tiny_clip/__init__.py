"""How the embedded model was trained, from drawn scenes alone."""
