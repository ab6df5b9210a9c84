"""The router: live predictions over HTTP, A/B tests between versions, and a log that loses no answer. CPU only."""
