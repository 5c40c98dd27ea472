"""A page to play with a trained model: its service, and what it is asked."""
