"""The only rooms of the orchestrator that touch boto3, requests, threads and the clock."""
