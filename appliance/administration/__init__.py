"""What the faces of administration share: CLI grammar, forms."""
