"""One fold: its network, its training, its predictions."""
