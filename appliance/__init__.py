"""The Pillarbox server: one folder a room, lowest first; a room imports only from rooms below it."""
