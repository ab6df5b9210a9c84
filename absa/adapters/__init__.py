"""The world that the model's life touches: the lake (folder or S3), the registry (MLflow), the ledger."""
