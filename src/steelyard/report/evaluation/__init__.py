"""What an evaluation found, to read: charts, tables, one HTML page, terminal tables and ``metrics.json``."""
