"""The REST and WebSocket API that clients use: sends commands to workers, reads views; keeps no state of its own."""
