"""Training of a version: snapshot, job, judging, registration, and the flow that runs them."""
