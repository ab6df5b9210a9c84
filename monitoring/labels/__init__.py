"""Labels: the queue of rows that are worth a label, and the import of filled queues."""
