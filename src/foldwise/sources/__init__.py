"""Where the original bytes come from, and how they are decoded."""
