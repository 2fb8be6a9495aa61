"""Rules of conversations that are not about a running generation: titles and search."""
