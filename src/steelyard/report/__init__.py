"""Records in, something to read out: terminal tables, charts and one self-contained HTML page."""
