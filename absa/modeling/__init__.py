"""Model: architecture of the classifier, and the base models from which a training starts."""
