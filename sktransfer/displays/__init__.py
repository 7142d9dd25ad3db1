"""Pictures of choices and of training, by scikit-learn's convention; matplotlib is imported when they draw."""
