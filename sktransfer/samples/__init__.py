"""Whatever a user passes as X, made into validated samples: images or texts, one row at a time."""
