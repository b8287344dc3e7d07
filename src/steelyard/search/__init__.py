"""Which plan next: the space of plans, their order, and a trial in isolation."""
