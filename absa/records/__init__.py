"""Records that cross a room: their fields, their keys in the lake, and how they are written and read."""
