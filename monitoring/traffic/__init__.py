"""Habits of live traffic that must not look like drift: its rhythm, its units, and floods of near-identical texts."""
