"""The console: its page, and the file with the lake's data that it shows."""
