"""The console: the page and the file of what it shows of the lake."""
