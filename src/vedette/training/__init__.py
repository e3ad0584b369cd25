"""Training: described as data, carried out by a trainer."""
