"""Mutated members and deliveries against the guarded readers, seeded: ``make fuzz``."""
