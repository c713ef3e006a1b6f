"""A stand-in GitHub: App authentication, JIT runners, releases, the runner's broker, workflow runs and their webhooks."""
