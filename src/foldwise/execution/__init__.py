"""Many folds: which runs when, on which worker."""
