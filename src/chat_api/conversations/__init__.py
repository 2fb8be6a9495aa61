"""Conversations apart from running generations: tree, titles, search, import, export."""
