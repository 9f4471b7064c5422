"""A day of sessions through the rule that scales the workers."""
