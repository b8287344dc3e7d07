"""`steelyard suite`: the same models, data, engines and batch sizes, read again and compared."""
