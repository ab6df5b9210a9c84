"""Commands of a home: its configuration."""
