"""The model to take away: its files, its card, and what it says of pictures."""
