"""From an artifact to a `Measurement`: fresh processes, raw readings."""
