"""The demo and its simulated customers. Imports the product; only the command line imports it."""
