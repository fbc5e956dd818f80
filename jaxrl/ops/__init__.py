"""Unbatched maths without state; the caller vmaps. Each function is tested against an oracle from outside the code."""
