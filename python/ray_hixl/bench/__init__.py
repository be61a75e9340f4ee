"""``ray-hixl bench``: measurements side by side with what else could move the bytes, in one run."""
