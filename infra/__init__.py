"""AWS app, container files, capacity and cost models. Imports no other room."""
