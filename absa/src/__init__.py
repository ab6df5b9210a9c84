"""Code of the ABSA assignment's submission."""
