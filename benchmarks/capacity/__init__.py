"""What a session costs each process: memory, CPU while somebody types, bytes in the stream."""
