"""Endpoints: calls with retries, a reply cache, a rate limit."""
