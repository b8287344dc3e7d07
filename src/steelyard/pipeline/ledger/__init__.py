"""`steelyard ledger`: what each training technique brings on this model, and the recipe that is left."""
