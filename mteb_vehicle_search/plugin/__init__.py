"""How mteb gets to know our tasks and models: the import hook, and what is put into mteb's registries."""
