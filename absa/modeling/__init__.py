"""The sentence-pair classifier: its architecture, and the base models that it starts from."""
