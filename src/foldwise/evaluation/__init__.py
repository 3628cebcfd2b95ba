"""The numbers and pictures of one run."""
