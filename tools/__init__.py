"""Programs of the maintainers: ``python -m tools.publish`` and others, from the repository's root."""
