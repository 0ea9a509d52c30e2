"""PIPE: mail from and to programs of this computer (manual, chapter 33)."""
