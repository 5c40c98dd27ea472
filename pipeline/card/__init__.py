"""The card of one corpus version: what is in it, whose it is, who is named, and what is not known of it."""
