"""How a stage meets the world: parameters, files, the console, errors, the environment."""
