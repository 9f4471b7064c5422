"""The SSH side of a session; nothing outside of this package uses asyncssh."""
