"""What a backbone is, and where it comes from."""
