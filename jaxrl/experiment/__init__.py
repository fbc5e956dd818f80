"""What is trained, by name and value: registry, precedence of settings, what can be varied."""
