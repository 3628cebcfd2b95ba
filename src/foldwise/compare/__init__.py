"""Many runs, read from DVC and compared."""
