"""Code that the ABSA assignment hands in."""
